"""Two hundred damaged and hostile inputs. Each is used or refused by name, soon and in little memory."""

import json
import subprocess
import sys


def test_every_input_is_used_or_refused_by_name() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--count", "200", "--seed", "1"]
    process = subprocess.run(words, capture_output=True, text=True)
    *faults, last = process.stdout.splitlines()
    assert process.returncode == 0, "\n".join([*faults[:5], process.stderr[-2000:]])
    counts = json.loads(last)
    assert counts["inputs"] == 200 and counts["refused"] > 50 and counts["used"] > 10
