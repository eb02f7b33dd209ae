"""Where the time of a training step goes, op by op: matrix products, element-wise passes,
reductions, and the rest.

    from minigpt.profile import profile_steps
    print(profile_steps(trainer))
"""

from minigpt.profile.steps import profile_steps
from minigpt.profile.table import OpTime, Profile

__all__ = ["OpTime", "Profile", "profile_steps"]
