"""Tests, in folders like those of what they test.

Processes that tests start find compiled files, whatever the machine says: each would compile the
sources of PyTorch and SciPy anew, which takes as long as importing them.
"""

import os

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
