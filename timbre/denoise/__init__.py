"""DeepFilterNet3, whose traces in the timbre the project began with, and other denoisers."""

from timbre.denoise.denoiser import ByHop, Denoiser, as_denoiser, load_denoiser
from timbre.denoise.df3 import Df3
from timbre.denoise.model import DeepFilterNet3

__all__ = ["ByHop", "DeepFilterNet3", "Denoiser", "Df3", "as_denoiser", "load_denoiser"]
