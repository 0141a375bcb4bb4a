"""Make `denoise.safetensors`: what the official package gives for one noisy clip.

Run as `python -m tests.help.golden.make_denoise`, with the extra `official` installed.
"""

from pathlib import Path

import safetensors.torch
import torch

from tests.help.denoise_inputs import noisy_voice
from tests.help.official_deepfilternet import Official

if __name__ == "__main__":
    # The input is stored too: numpy does not promise the same random numbers in all versions.
    noisy = (noisy_voice(33_333, seed=5) * 32768).round().to(torch.int16)
    denoised = Official().enhance(noisy.float() / 32768).contiguous()
    path = Path(__file__).with_name("denoise.safetensors")
    content = safetensors.torch.save(
        {"noisy": noisy, "denoised": denoised}, {"made_by": "deepfilternet 0.5.6"}
    )
    path.write_bytes(content)
