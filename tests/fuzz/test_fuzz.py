"""Two hundred damaged and hostile inputs: each is used, or refused by name, soon and in little memory."""

import json
import subprocess
import sys


def test_every_input_is_used_or_refused_by_name() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", "200", "--seed", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    *faults, last = done.stdout.splitlines()
    assert done.returncode == 0, "\n".join([*faults[:5], done.stderr[-2000:]])
    counts = json.loads(last)
    assert counts["inputs"] == 200 and counts["refused"] > 50 and counts["used"] > 10
