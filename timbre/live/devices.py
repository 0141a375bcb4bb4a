"""Sound cards, through PortAudio: which there are, and streams of them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from timbre.command import table
from timbre.errors import ConfigError, MissingPackageError, TimbreError
from timbre.packages import require


class DeviceError(TimbreError):
    """A sound card cannot be used, or has gone."""


class Device(NamedTuple):
    """A sound card as PortAudio sees it: its number and name, and how many channels it has."""

    number: int
    name: str
    host: str
    inputs: int
    outputs: int
    usual_rate: int


class Layout(NamedTuple):
    """How sound comes and goes: the rate in Hz, the channels, and the samples of a hop."""

    sample_rate: int
    channels: int
    hop: int

    def settings(self) -> dict[str, Any]:
        """Return them as PortAudio takes them."""
        return {
            "samplerate": self.sample_rate,
            "channels": self.channels,
            "blocksize": self.hop,
            "dtype": "float32",
            # 20 ms more, and no crackle while other programs work.
            "latency": "high",
        }


def devices() -> list[Device]:
    """Return all devices.

    Raises:
        MissingPackageError: sounddevice or PortAudio is not installed.
    """
    sound = _sounddevice()
    hosts = [host["name"] for host in sound.query_hostapis()]
    return [
        Device(
            number,
            str(device["name"]),
            str(hosts[device["hostapi"]]),
            int(device["max_input_channels"]),
            int(device["max_output_channels"]),
            round(device["default_samplerate"]),
        )
        for number, device in enumerate(sound.query_devices())
    ]


def find(word: str | None, option: str) -> Device:
    """Return the device that a word names: its number, its name or a part of that; None: the usual.

    Args:
        word: what a user wrote.
        option: that it was written for: ``--input``, or one of an output.

    Raises:
        ConfigError: there is none, or several have it in their names.
        MissingPackageError: see :func:`devices`.
    """
    is_input = option == "--input"
    able = [device for device in devices() if (device.inputs if is_input else device.outputs)]
    if word is None:
        usual = _sounddevice().default.device[0 if is_input else 1]
        fits = [device for device in able if device.number == usual]
    elif word.isdecimal():
        fits = [device for device in able if device.number == int(word)]
    else:
        fits = [device for device in able if device.name == word]
        fits = fits or [device for device in able if word.lower() in device.name.lower()]
    if len(fits) == 1:
        return fits[0]
    kind = "input" if is_input else "output"
    if fits:
        names = ", ".join(f"{device.number} ({device.name}, {device.host})" for device in fits)
        raise ConfigError(
            f"{option} {word}: several devices are called so; expected one of {names}"
        )
    what = "no usual device" if word is None else f"{option} {word}: no such device"
    names = ", ".join(f"{device.number} ({device.name})" for device in able) or "none"
    raise ConfigError(f"{what} with an {kind}; those with one: {names}")


def listing(all_devices: list[Device]) -> str:
    """Return devices as lines to print."""
    rows = [["", "device", "through", "inputs", "outputs", "usual rate"]]
    for device in all_devices:
        numbers = [str(n) for n in (device.inputs, device.outputs, device.usual_rate)]
        rows.append([str(device.number), device.name, device.host, *numbers])
    return table(rows, 3)


def open_input(layout: Layout, device: Device, callback: Callable[..., None]) -> Any:
    """Return a stream that calls ``callback`` with every hop recorded, once it is started.

    Raises:
        DeviceError: the device does not take the rate or the channels, or is busy.
    """
    sound = _sounddevice()
    with _opening(device, layout):
        return sound.InputStream(device=device.number, callback=callback, **layout.settings())


def open_output(layout: Layout, device: Device, callback: Callable[..., None]) -> Any:
    """Return a stream that plays what ``callback`` gives it, once it is started.

    Raises:
        DeviceError: the device does not take the rate or the channels, or is busy.
    """
    sound = _sounddevice()
    with _opening(device, layout):
        return sound.OutputStream(device=device.number, callback=callback, **layout.settings())


@contextmanager
def _opening(device: Device, layout: Layout) -> Iterator[None]:
    sound = _sounddevice()
    try:
        with _without_noise():
            yield
    except (sound.PortAudioError, ValueError) as error:
        reason = str(error.args[0] if error.args else error)
        raise DeviceError(
            f"{device.name}: cannot be opened at {layout.sample_rate} Hz with {layout.channels} "
            f"channel(s): {reason}. Another program may hold it; timbre live --list shows what it has"
        ) from None


@contextmanager
def _without_noise() -> Iterator[None]:
    """Drop what C libraries write to standard error: ALSA has a page for every device that is absent."""
    kept = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silence)


def _sounddevice() -> Any:
    require("sounddevice", "timbre live")
    try:
        with _without_noise():
            import sounddevice
    except OSError as error:
        raise MissingPackageError(
            f"timbre live needs the library PortAudio: {error}; on Debian and Ubuntu: apt install "
            "libportaudio2, and libasound2-plugins for PulseAudio and PipeWire"
        ) from None
    return sounddevice
