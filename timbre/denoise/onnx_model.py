"""A denoiser that the user brings as an ONNX model: 48 kHz waveform in, waveform out.

It has one float32 input ``(batch, samples)`` or ``(batch, 1, samples)`` that takes any number of
samples, and one float32 output of the same rank. All its weights are in the one file. Where its
metadata have ``sample_rate`` or ``latency_samples``, these must be true.
"""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from timbre import storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.align import MIN_CONFIDENCE, estimate_offset
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError, WorkError

EXPECTED = (
    "expected one float32 input (batch, samples) or (batch, 1, samples) that takes any number of "
    "samples, and one float32 output of the same rank"
)
FLOAT32 = "tensor(float)"
# What the delay is measured on, and how far on either side it is searched.
PROBE_SECONDS = 4.0
PROBE_SEED = 20
MAX_DELAY = SAMPLE_RATE // 4
# An output that much longer or shorter than its clip is at another rate, cut, or no waveform.
MAX_LENGTH_CHANGE = SAMPLE_RATE // 2


class OnnxDenoiser:
    """A checked model in an onnxruntime session of one thread; clips go through one by one.

    One by one, because a model may compute something over its batch or over what pads a clip.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, url: str, delay_samples: int | None = None, device: str = "cpu") -> None:
        """Load the model and try it on a voice.

        Args:
            url: the file; any URL that fsspec knows.
            delay_samples: how late the output is; None measures it.
            device: ``cpu``, or ``cuda:N`` where onnxruntime may use that GPU if it can.

        Raises:
            ConfigError: it is not such a model, or its delay cannot be measured.
        """
        self.name = f"onnx:{url}"
        data = _read_file(url, self.name)
        # The delay goes into the hash: it is measured on the CPU, the same for every machine.
        self._session = _session(data, self.name, "cpu")
        self._rank = _check_interface(self._session, self.name)
        facts_of_file = self._session.get_modelmeta().custom_metadata_map
        _check_fact(facts_of_file, "sample_rate", SAMPLE_RATE, self.name)
        probe, answer = self._try()
        self.latency_samples = (
            _measure_delay(probe, answer, self.name) if delay_samples is None else delay_samples
        )
        _check_fact(facts_of_file, "latency_samples", self.latency_samples, self.name)
        facts = f"{hashlib.sha256(data).hexdigest()} delay {self.latency_samples}"
        self.weights_sha256 = hashlib.sha256(facts.encode()).hexdigest()
        if device != "cpu":
            self._session = _session(data, self.name, device)

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was, with no delay left.

        Raises:
            WorkError: the model failed, or what it gave is not finite or of another length.
        """
        return [self._denoise(clip) for clip in clips]

    def by_hop(self) -> None:
        """Return None: the model takes whole signals."""
        return None

    def _denoise(self, noisy: Wave) -> Wave:
        late = max(self.latency_samples, 0)
        early = max(-self.latency_samples, 0)
        # Silence behind the clip pushes its end out of the model.
        answer = self._run(np.pad(noisy, (early, late)))
        part = answer[late : late + len(noisy)]
        return np.pad(part, (0, len(noisy) - len(part)))

    def _run(self, wave: Wave) -> Wave:
        """Return what the model gives ``(any,)`` for ``(samples,)``."""
        shape = (1,) * (self._rank - 1)
        feed = np.ascontiguousarray(wave, dtype=np.float32).reshape(*shape, -1)
        try:
            (answer,) = self._session.run(None, {self._session.get_inputs()[0].name: feed})
        except Exception as error:  # onnxruntime's errors have no other class in common
            raise WorkError(f"{self.name}: fails on {len(wave)} samples: {error}") from None
        if answer.shape[:-1] != shape:
            raise WorkError(f"{self.name}: gives shape {answer.shape} for {feed.shape}")
        if abs(answer.shape[-1] - len(wave)) > MAX_LENGTH_CHANGE:
            raise WorkError(
                f"{self.name}: gives {answer.shape[-1]} samples for {len(wave)}; "
                f"expected about as many, at {SAMPLE_RATE} Hz"
            )
        if not np.isfinite(answer).all():
            raise WorkError(f"{self.name}: gives NaN or infinite samples")
        result: Wave = answer.reshape(-1)
        return result

    def _try(self) -> tuple[Wave, Wave]:
        """Return a made-up voice and what the model makes of it."""
        probe = voice(PROBE_SECONDS, np.random.default_rng(PROBE_SEED))
        try:
            answer = self._run(probe)
        except WorkError as error:
            raise ConfigError(f"denoiser {error}; {EXPECTED}") from None
        return probe, answer


def _read_file(url: str, name: str) -> bytes:
    try:
        return storage.read(url)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ConfigError(f"denoiser {name}: cannot be read: {error}") from None


def _session(data: bytes, name: str, device: str) -> Any:
    """Return an inference session; a model that cannot be loaded is refused."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"denoiser {name}: the package onnxruntime cannot be imported ({error}): "
            "pip install 'timbre[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised too
    providers: list[Any] = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        on_gpu = {"device_id": device.rpartition(":")[2], "use_tf32": "0"}
        providers.insert(0, ("CUDAExecutionProvider", on_gpu))
    # Weights beside the file would be looked for in the working directory, and are not in the hash.
    with tempfile.TemporaryDirectory() as empty:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", empty
        )
        try:
            return onnxruntime.InferenceSession(data, options, providers=providers)
        except Exception as error:  # onnxruntime's errors have no other class in common
            raise ConfigError(
                f"denoiser {name}: onnxruntime cannot load it as one ONNX file with all its "
                f"weights inside: {error}"
            ) from None


def _check_interface(session: Any, name: str) -> int:
    """Return the rank of the model's input if the model is of the kind that is expected."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    tensors = {entry.name: (entry.type, list(entry.shape)) for entry in (*inputs, *outputs)}
    refusal = ConfigError(
        f"denoiser {name}: has inputs {[entry.name for entry in inputs]} and outputs "
        f"{[entry.name for entry in outputs]}: {tensors}; {EXPECTED}"
    )
    if len(inputs) != 1 or len(outputs) != 1:
        raise refusal
    if {inputs[0].type, outputs[0].type} != {FLOAT32} or len(inputs[0].shape) not in (2, 3):
        raise refusal
    # A dimension that may vary has a name or None; batch and channel may also be 1.
    *outer, samples = inputs[0].shape
    if isinstance(samples, int) or any(isinstance(size, int) and size != 1 for size in outer):
        raise refusal
    return len(inputs[0].shape)


def _check_fact(facts: Mapping[str, str], key: str, value: int, name: str) -> None:
    """Raise ConfigError if the file's own metadata say something else; most have none."""
    if key in facts and facts[key] != str(value):
        raise ConfigError(
            f"denoiser {name}: its metadata say {key} {facts[key]}, expected {value}"
            + (", as it is" if key == "latency_samples" else "")
        )


def _measure_delay(probe: Wave, answer: Wave, name: str) -> int:
    """Return by how many samples the answer comes after the probe."""
    alignment = estimate_offset(probe, answer, MAX_DELAY)
    if alignment.confidence < MIN_CONFIDENCE:
        raise ConfigError(
            f"denoiser {name}: its delay cannot be measured (confidence "
            f"{alignment.confidence:.2f}, expected {MIN_CONFIDENCE} or more, within {MAX_DELAY} "
            "samples): set denoiser.delay_samples"
        )
    return alignment.offset
