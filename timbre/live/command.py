"""Denoise and repair a microphone's sound while it comes in, through a sound card."""

import argparse
import math
import sys
from collections.abc import Sequence

import torch

from timbre.audio import SAMPLE_RATE, check_rates
from timbre.command import at_least, command, print_result
from timbre.errors import AudioError, ConfigError
from timbre.live.devices import Layout, devices, find, listing
from timbre.live.session import Look, Places, Session
from timbre.restore.live.command import (
    add_restorer_options,
    channel_count,
    channels_word,
    check_live_denoiser,
    load_restorer,
    mix_of,
)

LOWEST_RATE, HIGHEST_RATE = 8_000, 96_000
USUAL_SLACK = 2
EPILOG = """\
A hop is 10 ms. Sound comes out 50 ms later (spectral) by the networks, 20 ms by the guard, 10 ms for each
hop of --slack, and what the sound card takes; it is measured and shown. A hop that would be late fades to
the input and back: the end says how many did. docs/live.md has virtual microphones.
"""


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre live", description=__doc__, epilog=EPILOG)
    parser.add_argument("--list", action="store_true", help="show the devices and end")
    name = "a number of --list, a name, or a part of one that only one device has"
    parser.add_argument("--input", metavar="DEVICE", help=f"microphone: {name} (the usual one)")
    parser.add_argument("--output", metavar="DEVICE", help=f"where to: {name} (the usual one)")
    parser.add_argument("--monitor", metavar="DEVICE", help="plays the output too, to listen in")
    parser.add_argument(
        "--rate",
        type=at_least(LOWEST_RATE),
        default=SAMPLE_RATE,
        help=f"of the devices, in Hz, up to {HIGHEST_RATE} (%(default)s); another than 48000 takes 7 "
        "to 20 ms more",
    )
    parser.add_argument(
        "--channels",
        type=channels_word,
        help="1 or 2 (1), or of two: linked, so that the voice stays where it is, or apart",
    )
    parser.add_argument(
        "--slack",
        metavar="HOPS",
        type=at_least(0),
        default=USUAL_SLACK,
        help="how many hops late the networks may be before the input stands in (%(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="end after so long; usually by Ctrl-C"
    )
    add_restorer_options(parser)
    options = parser.parse_args(argv)
    check_live_denoiser(options)
    if options.rate > HIGHEST_RATE:
        raise ConfigError(f"--rate {options.rate}: expected {LOWEST_RATE} to {HIGHEST_RATE}")
    if channel_count(options.channels) > 2:
        raise ConfigError(f"--channels {options.channels}: expected 1 or 2")
    if not options.seconds > 0:
        raise ConfigError(f"--seconds {options.seconds}: expected more than 0")
    return options


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Restore from a device to a device, or list them."""
    options = _parse(argv)
    if options.list:
        print_result(listing(devices()))
        return
    try:
        check_rates(options.rate, SAMPLE_RATE)
    except AudioError as error:
        raise ConfigError(f"--rate: {error}") from None
    mix, channels = mix_of(options), channel_count(options.channels)
    source, target = find(options.input, "--input"), find(options.output, "--output")
    monitor = find(options.monitor, "--monitor") if options.monitor else None
    # A hop is too small to share.
    torch.set_num_threads(1)
    session = Session(
        Places(source, target, monitor),
        Layout(options.rate, channels, options.rate // 100),
        load_restorer(options, channels, mix),
        options.slack,
    )
    print_result(f"{source.name} -> {target.name}, {options.rate} Hz; Ctrl-C ends")
    shown = sys.stderr.isatty()
    last = session.run(options.seconds, _show if shown else lambda _: None)
    if shown:
        sys.stderr.write("\n")
    print_result(_summary(last, options.rate // 100 / options.rate))


def _show(look: Look) -> None:
    """Write meters over those before."""
    bars = [_bar(decibel) for decibel in (look.input_db, look.output_db)]
    sys.stderr.write(
        f"\rin {bars[0]} out {bars[1]}  {look.latency_ms:.0f} ms late, hop {look.p50_ms:.1f} ms "
        f"(p99 {look.p99_ms:.1f}), {look.counts.late} late hops, {look.underruns} underruns "
    )
    sys.stderr.flush()


def _bar(decibel: float) -> str:
    filled = min(max(round((decibel + 60) / 6), 0), 10)
    return f"[{'#' * filled}{'-' * (10 - filled)}]{decibel:4.0f} dB"


def _summary(look: Look, hop_seconds: float) -> str:
    counts = look.counts
    return "\n".join(
        [
            f"{counts.hops * hop_seconds:.1f} s in {counts.hops} hops, {look.latency_ms:.0f} ms from "
            "input to output",
            f"a hop took {look.p50_ms:.1f} ms, 99 of 100 at most {look.p99_ms:.1f} ms",
            f"late: {counts.late} hops in {counts.fades} fades to the input; {counts.jumps} jumps "
            f"between the devices' clocks; no input: {counts.stops} times; a device ran dry or over: "
            f"{look.underruns} times",
        ]
    )
