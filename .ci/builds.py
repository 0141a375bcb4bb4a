"""Print which torchaudio loads beside which torch: python .ci/builds.py FOLDER

Every pair is installed from PyPI into FOLDER and does what timbre needs of it; 10 GB and some minutes.
The result stands in timbre/torch_builds.py and docs/install.md.
"""

import subprocess
import sys
from pathlib import Path

TORCHES = ("2.11.0", "2.12.0", "2.12.1", "2.13.0", "2.14.0", "2.14.1", "2.15.0")
TORCHAUDIOS = ("2.11.0", "2.11.1")
# Prints a hash of what timbre uses of torchaudio.
PROBE = """
import hashlib, torch, torchaudio.functional as functional
from torchaudio.transforms import Resample
noise = torch.rand(2, 48000, generator=torch.Generator().manual_seed(0)) - 0.5
torch.set_num_threads(1)
results = [
    functional.resample(noise, 48000, 16000),
    functional.melscale_fbanks(513, 0.0, 24000.0, 80, 48000, norm="slaney", mel_scale="slaney"),
    Resample(44100, 48000)(noise),
]
print(hashlib.sha256(b"".join(result.numpy().tobytes() for result in results)).hexdigest()[:12])
"""


def main(folder: Path) -> None:
    """Install and probe every pair; print a row each."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin/python")
    for torch in TORCHES:
        install(python, f"torch=={torch}", "numpy")
        for torchaudio in TORCHAUDIOS:
            install(python, f"torchaudio=={torchaudio}", "--no-deps")
            probe = subprocess.run([python, "-c", PROBE], capture_output=True, text=True)
            result = (
                probe.stderr.strip().splitlines()[-1] if probe.returncode else probe.stdout.strip()
            )
            print(f"torch {torch}, torchaudio {torchaudio}: {result}", flush=True)


def install(python: str, *words: str) -> None:
    """Install by the environment's own pip."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", *words], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
