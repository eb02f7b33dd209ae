"""python -m minigpt: the command line."""

import sys

from minigpt.cli import main

sys.exit(main())
