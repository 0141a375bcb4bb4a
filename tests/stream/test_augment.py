"""Augmentation: its effect on signals, and draws that depend on the position alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from timbre.audio import SAMPLE_RATE, filters
from timbre.stream import augment
from timbre.stream.augment import HOLES, AugmentConfig, Draw, Sides, apply, draw

SAMPLES = 24000
MIDDLE = slice(4800, -4800)
NOTHING = AugmentConfig(
    gain_low=1.0, low_pass_share=0, tilt_share=0, residual_share=0, hole_share=0, noisy_dropout=0
)
ALWAYS = AugmentConfig(low_pass_share=1, tilt_share=1, residual_share=1, hole_share=1)


def tone(hz: float, samples: int = SAMPLES) -> Tensor:
    time = torch.arange(samples, dtype=torch.float64) / SAMPLE_RATE
    return torch.sin(2 * torch.pi * hz * time).float()


def amplitude(wave: Tensor, hz: float) -> float:
    """The height of a tone that has whole periods in the middle of ``wave``."""
    phase = torch.exp(-2j * torch.pi * hz * torch.arange(len(wave)).double() / SAMPLE_RATE)
    return 2 * abs((wave.double() * phase)[MIDDLE].mean().item())


def draw_of(batch: int = 1, **values: Tensor) -> Draw:
    """Return parameters that change nothing, except for ``values``."""
    return augment.draw(NOTHING, 0, 0, torch.arange(batch))._replace(**values)


def sides(batch: int, samples: int = SAMPLES) -> Sides:
    waves = 0.2 * torch.randn(3, batch, 1, samples, generator=torch.Generator().manual_seed(0))
    return Sides(*waves.unbind(), torch.full((batch,), 20000.0))


def same(wave: Tensor) -> Sides:
    return Sides(*[wave[None, None]] * 3, torch.tensor([22000.0]))


def waves_of(batch: Sides) -> list[Tensor]:
    assert batch.noisy is not None
    return [batch.degraded, batch.clean, batch.noisy]


def one_hole(depth_db: float, middle: float, seconds: float, hz: float, octaves: float) -> Tensor:
    """Holes of which only the last has a depth."""
    holes = torch.tensor([[[0, 0.5, 0.1, 1000.0, 1]] * HOLES])
    holes[0, -1] = torch.tensor([depth_db, middle, seconds, hz, octaves])
    return holes


def test_draws_depend_on_seed_epoch_and_position_alone() -> None:
    whole = augment.draw(ALWAYS, 3, 1, torch.arange(40, 52))
    part = augment.draw(ALWAYS, 3, 1, torch.arange(46, 52))
    assert all(p.equal(w[6:]) for p, w in zip(part, whole, strict=True))
    for other in [
        (4, 1, torch.arange(40, 52)),
        (3, 2, torch.arange(40, 52)),
        (3, 1, torch.arange(41, 53)),
    ]:
        assert not augment.draw(ALWAYS, *other).gain.equal(whole.gain)


def test_a_batch_changes_like_its_parts() -> None:
    batch, parameters = sides(6), augment.draw(ALWAYS, 0, 0, torch.arange(6))
    whole = augment.apply(parameters, batch)
    for rows in (slice(0, 1), slice(1, 3), slice(3, 6)):
        part = augment.apply(Draw(*(p[rows] for p in parameters)), Sides(*(s[rows] for s in batch)))
        assert all(p.equal(w[rows]) for p, w in zip(part, whole, strict=True))


def test_draws_follow_the_config() -> None:
    draws = augment.draw(AugmentConfig(), 0, 0, torch.arange(4000))
    assert draws.gain.min() >= 0.8 and draws.gain.max() <= 1.0  # and so no polarity is flipped
    has_holes = (draws.holes[..., 0] > 0).any(dim=1)
    depths = draws.holes[..., 0][draws.holes[..., 0] > 0]
    for factors, share, low, high in [
        (draws.low_pass_hz[draws.low_pass_hz < SAMPLE_RATE / 2], 0.3, 4000, 20000),
        (draws.tilt_db[draws.tilt_db != 0], 0.3, -1.5, 1.5),
        (20 * draws.residual[draws.residual != 1].log10(), 0.3, -6.001, 6.001),
        (draws.keep_noisy[draws.keep_noisy == 0], 0.3, 0, 0),
    ]:
        assert abs(len(factors) / 4000 - share) < 0.03
        assert factors.min() >= low and factors.max() <= high
        assert factors.max() - factors.min() >= 0.98 * (high - low) - 0.01
    assert abs(has_holes.float().mean() - 0.2) < 0.03
    assert depths.min() >= 3 and depths.max() <= 15
    # Every number of holes is as likely as the others.
    counts = (draws.holes[has_holes][..., 0] > 0).sum(dim=1).bincount(minlength=HOLES + 1)
    assert counts[0] == 0 and counts[1:].min() > 0.6 * has_holes.sum() / HOLES
    flips = augment.draw(AugmentConfig(flip_polarity=True), 0, 0, torch.arange(4000)).gain < 0
    assert abs(flips.float().mean() - 0.5) < 0.03


def test_crops_and_augmentation_draw_from_different_streams() -> None:
    crop = np.random.default_rng([3, 1, 40]).random(2)
    gain = augment.draw(AugmentConfig(), 3, 1, torch.tensor([40])).gain.item()
    assert all(gain != pytest.approx(0.8 + 0.2 * value) for value in crop)


@pytest.mark.parametrize("samples", [1, 4801, SAMPLES])
def test_nothing_asked_for_changes_no_bit(samples: int) -> None:
    batch = sides(3, samples)
    output = augment.apply(augment.draw(NOTHING, 5, 2, torch.arange(3)), batch)
    assert all(c.equal(g) for c, g in zip(output, batch, strict=True))


def test_without_a_noisy_side_there_is_none_and_the_others_are_as_with_it() -> None:
    batch, parameters = sides(4), augment.draw(ALWAYS, 0, 0, torch.arange(4))
    alone = augment.apply(parameters, batch._replace(noisy=None))
    assert alone.noisy is None
    assert alone.clean.equal(augment.apply(parameters, batch).clean)


def test_all_sides_get_one_gain() -> None:
    batch, gain = sides(2), torch.tensor([0.8, -0.9])
    output = augment.apply(draw_of(2, gain=gain), batch)
    for before, after in zip(waves_of(batch), waves_of(output), strict=True):
        assert after.equal(before * gain[:, None, None])
    assert output.bandwidth_hz.tolist() == [20000.0, 20000.0]


@pytest.mark.parametrize("cut_hz", [4000.0, 10000.0, 16000.0])
def test_the_low_pass_keeps_what_is_below_in_phase_and_removes_what_is_above(cut_hz: float) -> None:
    below, above = tone(cut_hz - 600) / 2, tone(cut_hz + 100) / 2
    output = augment.apply(draw_of(low_pass_hz=torch.tensor([cut_hz])), same(below + above))
    assert (output.degraded[0, 0, MIDDLE] - below[MIDDLE]).abs().max() < 0.001
    assert all(wave.equal(output.degraded) for wave in waves_of(output))
    assert output.bandwidth_hz.item() == cut_hz


def test_the_bandwidth_never_grows() -> None:
    batch = sides(1)._replace(bandwidth_hz=torch.tensor([9000.0]))
    output = augment.apply(draw_of(low_pass_hz=torch.tensor([15000.0])), batch)
    assert output.bandwidth_hz.item() == 9000.0


@pytest.mark.parametrize("slope_db", [-1.5, 0.7])
def test_a_tilt_has_its_slope_about_1_khz_and_no_delay(slope_db: float) -> None:
    impulse = torch.zeros(SAMPLES + 1)
    impulse[SAMPLES // 2] = 0.1
    output = augment.apply(draw_of(tilt_db=torch.tensor([slope_db])), same(impulse))
    wave = output.degraded[0, 0]
    assert all(other.equal(output.degraded) for other in waves_of(output))
    torch.testing.assert_close(wave, wave.flip(0), atol=1e-6, rtol=0)
    response = torch.fft.rfft(wave.double(), SAMPLE_RATE).abs() / 0.1  # one bin a Hz
    for octave in range(-1, 5):
        level_db = 20 * response[round(1000 * 2**octave)].log10().item()
        assert level_db == pytest.approx(slope_db * octave, abs=0.04)


@pytest.mark.parametrize("level_db", [-6.0, 6.0])
def test_a_known_residual_is_brought_to_another_level_and_the_voice_is_not(level_db: float) -> None:
    clean = 0.3 * tone(1000) + 0.2 * tone(3000)
    voice = 0.3 * tone(1000) + 0.05 * tone(3000)  # 12 dB are missing here
    residual = 0.02 * tone(7000)
    batch = Sides((voice + residual)[None, None], clean[None, None], None, torch.tensor([2e4]))
    factor = 10 ** (level_db / 20)
    output = augment.apply(draw_of(residual=torch.tensor([factor])), batch)
    assert output.clean.equal(batch.clean)
    wave = output.degraded[0, 0]
    assert amplitude(wave, 7000) == pytest.approx(0.02 * factor, rel=0.01)
    assert amplitude(wave, 1000) == pytest.approx(0.3, rel=0.001)
    assert amplitude(wave, 3000) == pytest.approx(0.05, rel=0.001)
    change = (wave - voice)[MIDDLE].square().sum() / residual[MIDDLE].square().sum()
    assert 10 * change.log10().item() == pytest.approx(level_db, abs=0.3)  # of noise against voice


def test_of_a_bin_that_is_too_loud_only_the_excess_is_scaled() -> None:
    clean = 0.2 * tone(2000)
    batch = Sides(1.5 * clean[None, None], clean[None, None], None, torch.tensor([2e4]))
    output = augment.apply(draw_of(residual=torch.tensor([2.0])), batch)
    assert amplitude(output.degraded[0, 0], 2000) == pytest.approx(0.2 * (1 + 2 * 0.5), rel=0.001)


def test_what_is_missing_stays_missing_to_the_bit() -> None:
    clean = sides(1).clean
    batch = Sides(-0.3 * clean, clean, None, torch.tensor([2e4]))
    for factor in (0.5, 2.0):
        output = augment.apply(draw_of(residual=torch.tensor([factor])), batch)
        assert output.degraded.equal(batch.degraded)


def test_a_hole_is_as_deep_long_and_wide_as_drawn_and_on_the_degraded_side_alone() -> None:
    wave = (tone(2000) + tone(4000) + tone(4800) + tone(8000)) / 8
    # From 0.2 to 0.3 s, and half an octave to both sides of 4 kHz.
    holes = one_hole(12.0, 0.5, 0.1, 4000.0, 1.0)
    batch = same(wave)
    output = augment.apply(draw_of(holes=holes), batch)
    assert output.clean.equal(batch.clean) and waves_of(output)[2].equal(batch.clean)
    after = output.degraded[0, 0]

    def height(hz: float, begin: float, end: float) -> float:
        part = slice(round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE))
        phase = torch.exp(-2j * torch.pi * hz * torch.arange(SAMPLES).double() / SAMPLE_RATE)
        return 8 * 2 * abs((after.double() * phase)[part].mean().item())

    depth = 10 ** (-12 / 20)
    for hz in (4000, 4800):
        assert height(hz, 0.21, 0.29) == pytest.approx(depth, rel=0.01)
    for hz in (2000, 8000):
        assert height(hz, 0.21, 0.29) == pytest.approx(1, rel=0.01)
    # Past the plateau, a ramp of 20 ms and half a frame nothing is touched.
    outside = torch.ones(SAMPLES, dtype=torch.bool)
    outside[round(0.16 * SAMPLE_RATE) : round(0.34 * SAMPLE_RATE)] = False
    assert after[outside].equal(wave[outside])
    # The edges are no clicks: nothing new sounds elsewhere in the spectrum.
    window = torch.hann_window(SAMPLES, dtype=torch.float64)
    spectrum = (
        torch.fft.rfft((after - wave).double() * window).abs() / torch.fft.rfft(window)[0].abs()
    )
    assert 20 * spectrum[6000:].max().log10() < -75  # from 12 kHz


def test_the_end_of_a_segment_does_not_sound_at_its_start() -> None:
    wave = torch.zeros(24 * filters.BLOCK)
    wave[-1] = 0.5
    parameters = draw_of(low_pass_hz=torch.tensor([4000.0]), tilt_db=torch.tensor([-1.5]))
    output = augment.apply(parameters, same(wave))
    assert output.clean[0, 0, -1] > 0.05
    assert output.clean[0, 0, :4800].abs().max() < 2e-6


def test_a_withheld_noisy_side_is_silent_and_nothing_else_changes() -> None:
    batch = sides(2)
    output = augment.apply(draw_of(2, keep_noisy=torch.tensor([1.0, 0.0])), batch)
    assert output.degraded.equal(batch.degraded) and output.clean.equal(batch.clean)
    assert output.noisy is not None and batch.noisy is not None
    assert output.noisy[0].equal(batch.noisy[0])
    assert output.noisy[1].count_nonzero() == 0


def test_silence_stays_silent() -> None:
    batch = Sides(*torch.zeros(3, 8, 1, SAMPLES).unbind(), torch.full((8,), 20000.0))
    for wave in waves_of(augment.apply(augment.draw(ALWAYS, 0, 0, torch.arange(8)), batch)):
        assert wave.count_nonzero() == 0
    # Silence on one side only, as a denoiser leaves it.
    for silent in ("degraded", "clean"):
        half = sides(8)._replace(**{silent: torch.zeros(8, 1, SAMPLES)})
        output = augment.apply(augment.draw(ALWAYS, 0, 0, torch.arange(8)), half)
        assert all(wave.isfinite().all() for wave in waves_of(output))


def test_a_pair_past_full_scale_is_lowered_as_a_whole() -> None:
    square = tone(50).sign()
    batch = same(square)._replace(degraded=0.5 * square[None, None])
    parameters = draw_of(tilt_db=torch.tensor([-1.5]))
    output = augment.apply(parameters, batch)
    assert output.clean.abs().max() == pytest.approx(1)
    torch.testing.assert_close(output.degraded, output.clean / 2)
    quiet = augment.apply(parameters, same(0.1 * square))
    assert quiet.clean.abs().max() > 0.11  # so it would have passed full scale
    torch.testing.assert_close(
        output.clean / output.clean.abs().max(), quiet.clean / quiet.clean.abs().max()
    )


def test_autocast_does_not_reach_inside() -> None:
    batch, parameters = sides(2), augment.draw(ALWAYS, 0, 0, torch.arange(2))
    plain = augment.apply(parameters, batch)
    with torch.autocast("cpu", torch.bfloat16):
        under = augment.apply(parameters, batch)
    assert all(u.equal(p) for u, p in zip(under, plain, strict=True))


def test_no_value_is_read_back_from_the_device() -> None:
    # Fake tensors have shapes and no values: whoever asks for one fails.
    mode = FakeTensorMode()
    parameters = Draw(*(mode.from_tensor(p) for p in augment.draw(ALWAYS, 0, 0, torch.arange(2))))
    batch = Sides(*(mode.from_tensor(side) for side in sides(2)))
    with mode:
        output = augment.apply(parameters, batch)
        with pytest.raises(DataDependentOutputException):
            output.clean.max().item()
    assert all(wave.shape == (2, 1, SAMPLES) for wave in waves_of(output))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"gain_low": 0.9, "gain_high": 0.8}, "gain_low 0.9, gain_high 0.8: expected 0.1 <= low"),
        ({"low_pass_high_hz": 3e4}, "low_pass_low_hz 4000.0, low_pass_high_hz 30000.0"),
        ({"tilt_low_db": 2.0}, "tilt_low_db 2.0, tilt_high_db 1.5: expected -6.0 <= low <= high"),
        ({"residual_high_db": 21.0}, "residual_low_db -6.0, residual_high_db 21.0"),
        ({"hole_low_db": -1.0}, "hole_low_db -1.0, hole_high_db 15.0: expected 0.0 <= low"),
        ({"hole_share": 1.5}, "hole_share"),
        ({"noisy_dropout": -0.1}, "noisy_dropout"),
    ],
)
def test_bounds_that_contradict_each_other_are_refused(
    bounds: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**bounds)  # type: ignore[arg-type]


def test_gain_is_a_little_and_in_common_and_polarity_stays_unless_asked() -> None:
    only_gain = {f"{name}_share": 0.0 for name in ("low_pass", "tilt", "residual", "hole")}
    positions = torch.arange(400)
    plain = draw(AugmentConfig(**only_gain), 0, 0, positions)
    assert 0.8 <= float(plain.gain.min()) < 0.81 and 0.99 < float(plain.gain.max()) <= 1.0
    with_flips = draw(AugmentConfig(**only_gain, flip_polarity=True), 0, 0, positions)
    assert 0.4 < float((with_flips.gain < 0).float().mean()) < 0.6
    torch.manual_seed(0)
    wave = 0.1 * torch.randn(400, 1, 1200)
    for draws in (plain, with_flips):
        bandwidth_hz = torch.full((400,), 24000.0)
        sides = apply(draws, Sides(wave / 3, wave, None, bandwidth_hz))
        gain = draws.gain[:, None, None]
        torch.testing.assert_close(sides.clean, wave * gain)
        torch.testing.assert_close(sides.degraded, wave / 3 * gain)
