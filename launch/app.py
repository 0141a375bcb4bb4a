"""`timbre ui` for a host that runs a file named app.py: its requirements are ``timbre[ui]``."""

from timbre.ui.page import build
from timbre.ui.work import Limits

LIMITS = Limits(megabytes=50, minutes=5)

if __name__ == "__main__":
    build(LIMITS).launch(share=False, max_file_size=LIMITS.megabytes * 1_000_000)
