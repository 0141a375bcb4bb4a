"""The parts that take a stream hop by hop, and carry what they need of its past in a state."""

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from timbre.denoise import DeepFilterNet3
from timbre.denoise.step import LATENCY_HOPS, LATENCY_SAMPLES, DenoiserState, DenoiserStep
from timbre.hop_stream import HOP
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_step import SCALE, SpectralState, SpectralStep
from timbre.portable.denoiser import PortableDenoiser
from timbre.portable.fourier import FactoredFourier
from timbre.portable.part import Part
from timbre.portable.whole import chain_output, generator_output
