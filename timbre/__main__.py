"""``python -m timbre`` is the command ``timbre``."""

import sys

from timbre.cli import main

sys.exit(main())
