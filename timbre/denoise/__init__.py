"""DeepFilterNet3, the denoiser whose traces in the timbre the rest of the project repairs."""

from timbre.denoise.model import DeepFilterNet3

__all__ = ["DeepFilterNet3"]
