"""The program that `benchmarks.kill_readers` kills: FOLDER URL."""

import sys
from pathlib import Path

from benchmarks.kill_readers import read_until_killed

if __name__ == "__main__":
    read_until_killed(Path(sys.argv[1]), sys.argv[2])
