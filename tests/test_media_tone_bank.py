"""Frames and runs: what one sounds like, how long it lasts."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.tone_bank import FrameSound, Spectrum, ToneBank, pure_tone
from backend.media.tone_runs import OTHER, SILENCE, Run, RunBuilder
from tests.tone_signals import Part, sound

RU = (Spectrum((425,)), Spectrum((950,), 50), Spectrum((1400,), 50), Spectrum((1800,), 50))
US = (Spectrum((350, 440)), Spectrum((440, 480)), Spectrum((480, 620)))
GB = (Spectrum((350, 440)), Spectrum((400, 450)), Spectrum((400,)))
FAX = (Spectrum((1100,), 15), Spectrum((2100,), 15))


def hear(spectra: tuple[Spectrum, ...], *hz: float, **how: float) -> list[int | None]:
    """What each of ten frames is taken for."""
    pcm = sound([(hz, 200)], alaw=False, **how)  # type: ignore[arg-type]
    bank = ToneBank(spectra)
    return [bank.hear(pcm[n * 320 : n * 320 + 320]).spectrum for n in range(10)]


@pytest.mark.parametrize("off", [0.985, 1.0, 1.015])
@pytest.mark.parametrize("twist_db", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("spectra", [RU + FAX, US + FAX, GB + FAX], ids=["ru", "us", "gb"])
def test_every_spectrum_is_itself(
    spectra: tuple[Spectrum, ...], twist_db: float, off: float
) -> None:
    for number, spectrum in enumerate(spectra):
        for seed in range(5):  # of the phases
            found = hear(spectra, *spectrum.hz, off=off, twist_db=twist_db, seed=seed)
            assert found == [number] * 10, spectrum


@pytest.mark.parametrize("hz", [913.8, 985.2, 1000.0, 1370.6, 1428.5, 1776.7, 1850.0])
def test_a_spread_is_covered(hz: float) -> None:
    number = 1 if hz <= 1000 else 2 if hz <= 1450 else 3
    for off in (0.99, 1.0, 1.01):
        assert hear(RU, hz, off=off) == [number] * 10


@pytest.mark.parametrize(
    "hz", [(300.0,), (395.0,), (455.0,), (700.0,), (1200.0,), (2600.0,), (3050.0,), (425.0, 700.0)]
)
def test_other_frequencies_are_none_of_them(hz: tuple[float, ...]) -> None:
    assert hear(RU + FAX, *hz) == [None] * 10


def test_of_two_that_fit_the_simpler_one() -> None:
    assert hear(GB, 400, off=1.01) == [2] * 10  # 400 lies in the space of 400 and 450, too
    assert hear(GB, 400, 450) == [1] * 10


def test_noise_and_quiet() -> None:
    source = random.Random(3)
    bank = ToneBank(RU + US)
    loud = [sound([((), 20)], noise_dbm0=-15, seed=source.randrange(999)) for _ in range(200)]
    assert [bank.hear(frame).spectrum for frame in loud] == [None] * 200
    assert bank.hear(bytes(320)) == FrameSound(None, 0.0)
    assert hear(RU, 425, dbm0=-50) == [None] * 10
    assert hear(RU, 425, dbm0=-38) == [0] * 10


def test_power_is_the_mean_square() -> None:
    heard = ToneBank(RU).hear(sound([((425.0,), 20)], dbm0=-6.15, alaw=False))
    assert 10 * math.log10(heard.power / 32768**2) == pytest.approx(-12.3, abs=0.2)


@pytest.mark.parametrize("noise_dbm0", [-70, -30])
@pytest.mark.parametrize("hz", [425, 800, 1000, 1400, 1776, 2100, 3000])
def test_the_frequency_of_a_pure_tone(hz: float, noise_dbm0: float) -> None:
    pcm = sound([((hz,), 400)], dbm0=-15, noise_dbm0=noise_dbm0)
    found = [pure_tone(pcm[n * 320 : n * 320 + 320]) for n in range(20)]
    mean = sum(one for one, _ in found) / len(found)
    assert mean == pytest.approx(hz, rel=0.012)
    assert min(share for _, share in found) > 0.75


def test_two_tones_and_silence_are_not_pure() -> None:
    pcm = sound([((1000.0, 1400.0), 20)])
    assert pure_tone(pcm)[1] < 0.6
    assert pure_tone(bytes(320)) == (0.0, 0.0)


# Runs


def runs(parts: list[Part], **how: float) -> list[tuple[int, float]]:
    """Kind and length of each run, the last included."""
    builder, found = RunBuilder(ToneBank(RU)), []
    pcm = sound(parts, **how)  # type: ignore[arg-type]
    for place in range(0, len(pcm) - 319, 320):
        if builder.push(pcm[place : place + 320]):
            assert builder.ended is not None
            found.append((builder.ended.kind, builder.ended.length_ms))
    return [*found[1:], (builder.current.kind, builder.current.length_ms)]


@given(st.integers(150, 600), st.integers(150, 600), st.integers(0, 60), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_lengths_are_truer_than_a_frame(on_ms: int, off_ms: int, lead_ms: int, seed: int) -> None:
    tone: Part = ((425.0,), on_ms)
    found = runs(
        [((), 200 + lead_ms), tone, ((), off_ms), tone, ((), 300)], noise_dbm0=-50, seed=seed
    )
    assert [kind for kind, _ in found] == [SILENCE, 0, SILENCE, 0, SILENCE]
    for (_, length_ms), expected_ms in zip(found[1:4], (on_ms, off_ms, on_ms), strict=True):
        assert abs(length_ms - expected_ms) <= 12


@pytest.mark.parametrize("gap_ms", [10, 20, 40])
def test_a_lost_packet_or_a_click_is_swallowed(gap_ms: int) -> None:
    tone: Part = ((425.0,), 300)
    found = runs([((), 200), tone, ((), gap_ms), tone, ((), 200)])
    assert [kind for kind, _ in found] == [SILENCE, 0, SILENCE]
    assert abs(found[1][1] - 600 - gap_ms) <= 12


def test_one_tone_after_the_other_and_something_else() -> None:
    found = runs([((950.0,), 330), ((1400.0,), 330), ((600.0,), 400), ((), 300)])
    assert [kind for kind, _ in found] == [1, 2, OTHER, SILENCE]
    assert abs(found[0][1] - 330) <= 12
    assert abs(found[1][1] - 330) <= 20


def test_a_quieter_sound_is_silence_only_after_a_tone() -> None:
    murmur: Part = ((600.0,), 500)
    assert runs([murmur], dbm0=-35) == [(OTHER, 500.0)]
    builder = RunBuilder(ToneBank(RU))
    loud, quiet = sound([((425.0,), 400)], dbm0=-12), sound([murmur], dbm0=-30)
    for place in range(0, len(loud + quiet), 320):
        builder.push((loud + quiet)[place : place + 320])
    assert builder.current.kind == SILENCE


def test_an_empty_run_has_no_power() -> None:
    assert (Run(0, 5.0).power, Run(0, 5.0).end_ms) == (0.0, 5.0)
