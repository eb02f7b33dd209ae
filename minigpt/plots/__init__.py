"""Pictures of training and of what a model looks at: loss curves, attention maps, gradient norms.
The only importer of matplotlib.

Every figure here is an object of its own and nothing goes through pyplot: no display is needed, no
global state is touched, and threads may draw side by side. In a notebook a figure shows itself when
it is a cell's last value: `plots.loss_curve(rows).figure`.
"""

from minigpt.plots.attention import attention_map, attention_maps, visible
from minigpt.plots.crossing import alignment, cross_attention
from minigpt.plots.family import draw_family
from minigpt.plots.figure import COLOURS, FONT, INK, annotate, check_format, png, save, style, subplots
from minigpt.plots.sentences import sentence_map
from minigpt.plots.training import blocks, gradient_norms, loss_curve, profile_chart, step_errors

__all__ = [
    "COLOURS",
    "FONT",
    "INK",
    "alignment",
    "annotate",
    "attention_map",
    "attention_maps",
    "blocks",
    "check_format",
    "cross_attention",
    "draw_family",
    "gradient_norms",
    "loss_curve",
    "png",
    "profile_chart",
    "save",
    "sentence_map",
    "step_errors",
    "style",
    "subplots",
    "visible",
]
