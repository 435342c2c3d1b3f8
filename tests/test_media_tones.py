"""Call-progress tones, one by one. How many of a whole set: test_screening_accuracy.py."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.media.pcm import zeros
from backend.media.tone_table import Tone, ToneKind, Tones, load
from backend.media.tones import SitKind, ToneDetector, ToneEnded, ToneEvent, ToneStarted
from tests.tone_signals import Part, parts_of, sound

TABLE = load()


def tone_of(country: str, kind: ToneKind) -> Tone:
    return next(tone for tone in TABLE.of(country) if tone.kind is kind)


def heard(pcm: bytes, country: str = "ru") -> list[ToneEvent]:
    return ToneDetector(TABLE.of(country)).feed(pcm)


def kinds(events: list[ToneEvent]) -> list[ToneKind]:
    return [event.kind for event in events if isinstance(event, ToneStarted)]


@pytest.mark.parametrize(
    ("country", "kind", "within_ms"),
    [
        ("ru", ToneKind.RINGBACK, 1700),  # a burst, and a gap longer than busy's
        ("ru", ToneKind.BUSY, 1850),  # three bursts
        ("ru", ToneKind.CONGESTION, 1000),
        ("ru", ToneKind.DIAL, 3000),
        ("us", ToneKind.RINGBACK, 2100),
        ("us", ToneKind.BUSY, 2600),
        ("gb", ToneKind.RINGBACK, 1400),
        ("gb", ToneKind.CONGESTION, 2000),
        ("gb", ToneKind.UNOBTAINABLE, 3000),
        ("ru", ToneKind.SIT, 860),
        ("ru", ToneKind.CNG, 4100),  # voicemail beeps at 1100 Hz too: two bursts
        ("ru", ToneKind.CED, 1000),
    ],
)
def test_how_soon_a_tone_is_certain(country: str, kind: ToneKind, within_ms: int) -> None:
    events = heard(sound(parts_of(tone_of(country, kind), 8000)), country)
    assert isinstance(events[0], ToneStarted)
    assert (events[0].kind, events[0].since_ms) == (kind, 0)
    assert events[0].at_ms <= within_ms


def test_a_tone_starts_once_and_ends_once() -> None:
    ringback = sound(parts_of(tone_of("ru", ToneKind.RINGBACK), 14_000), noise_dbm0=-55)
    busy = sound(parts_of(tone_of("ru", ToneKind.BUSY), 5000), noise_dbm0=-55)
    events = heard(ringback[: 11_300 * 16] + busy + zeros(3000))
    found = [(type(event), event.kind) for event in events]
    assert found == [
        (ToneStarted, ToneKind.RINGBACK),
        (ToneEnded, ToneKind.RINGBACK),
        (ToneStarted, ToneKind.BUSY),
        (ToneEnded, ToneKind.BUSY),
    ]
    assert events[0].at_ms < 2000
    assert 11_300 <= events[1].at_ms <= events[2].at_ms <= 11_300 + 2500
    assert events[3].at_ms <= 11_300 + 5100 + 1000


def test_a_long_ringback_is_one_tone_with_lost_packets_and_clicks() -> None:
    source = random.Random(4)
    values = array("h", sound(parts_of(tone_of("ru", ToneKind.RINGBACK), 60_000), dbm0=-20))
    for _ in range(40):
        place = source.randrange(len(values) - 400)
        values[place : place + 160] = array("h", bytes(320))
        values[source.randrange(len(values))] = 20_000
    assert [type(event) for event in heard(values.tobytes())] == [ToneStarted]


def test_a_cadence_may_begin_in_its_middle() -> None:
    tone = tone_of("gb", ToneKind.RINGBACK)
    for skip_ms in range(0, 3000, 250):
        events = heard(sound(parts_of(tone, 9000), skip_ms=skip_ms, noise_dbm0=-60), "gb")
        assert kinds(events) == [ToneKind.RINGBACK], skip_ms
        assert events[0].at_ms <= 4500


SHORT, LONG = 274.0, 380.0
LOW, HIGH = (913.8, 985.2), (1370.6, 1428.5)


@pytest.mark.parametrize("off", [0.985, 1.0, 1.015])
@pytest.mark.parametrize(
    ("first", "second", "means"),
    [
        ((LOW[0], SHORT), (HIGH[0], SHORT), SitKind.INTERCEPT),
        ((LOW[1], LONG), (HIGH[0], SHORT), SitKind.VACANT_CODE),
        ((LOW[0], SHORT), (HIGH[1], LONG), SitKind.REORDER),
        ((LOW[1], SHORT), (HIGH[0], LONG), SitKind.REORDER),
        ((LOW[1], LONG), (HIGH[1], LONG), SitKind.NO_CIRCUIT),
        ((LOW[0], LONG), (HIGH[0], LONG), SitKind.NO_CIRCUIT),
        ((LOW[0], LONG), (HIGH[1], SHORT), SitKind.OTHER),
        ((950.0, 330.0), (1400.0, 330.0), None),  # ITU-T E.180's: it says no more
    ],
)
def test_which_special_information_tone(
    first: tuple[float, float], second: tuple[float, float], means: SitKind | None, off: float
) -> None:
    third = 1776.7 if means else 1800.0
    parts: list[Part] = [((hz,), ms) for hz, ms in (first, second, (third, LONG))]
    for dbm0, seed in ((-12.0, 1), (-24.0, 2), (-34.0, 3)):
        pcm = sound([((), 510), *parts, ((), 1000)], dbm0=dbm0, off=off, seed=seed, noise_dbm0=-62)
        (event,) = heard(pcm)
        assert isinstance(event, ToneStarted)
        assert (event.kind, event.sit) == (ToneKind.SIT, means)
        assert abs(event.since_ms - 510) <= 20


def test_sit_with_gaps_and_again() -> None:
    gap: Part = ((), 30)
    once: list[Part] = [((950.0,), 330), gap, ((1400.0,), 330), gap, ((1800.0,), 330), ((), 1000)]
    assert kinds(heard(sound(once * 2))) == [ToneKind.SIT] * 2


@pytest.mark.parametrize(
    "parts",
    [
        [((1800.0,), 330), ((1400.0,), 330), ((950.0,), 330)],
        [((950.0,), 330), ((), 200), ((1400.0,), 330), ((), 200), ((1800.0,), 330)],
        [((950.0,), 100), ((1400.0,), 100), ((1800.0,), 400)],
        [((425.0,), 350), ((), 350), ((425.0,), 350)],  # two bursts may be anything
        [((1100.0,), 500), ((), 3000)],  # a beep
        [((2100.0,), 700)],
        [((425.0,), 350), ((), 900), ((425.0,), 350), ((), 350), ((425.0,), 150)],
        [((530.0,), 350), ((), 350)] * 5,
        [((425.0, 700.0), 350), ((), 350)] * 5,
    ],
    ids=str,
)
def test_what_is_no_tone_of_the_table(parts: list[Part]) -> None:
    assert heard(sound([*parts, ((), 600)])) == []


def test_ansam_turns_its_phase_over_and_swings() -> None:
    """ITU-T V.8: 2100 Hz, phase reversals every 450 ms, amplitude modulated by 15 Hz, 20 %."""
    swing = 0.2 / 2
    ansam: Part = ((2100.0,), 450)
    plain = array("h", sound([ansam] * 6, dbm0=-15, seed=9))
    assert kinds(heard(plain.tobytes())) == [ToneKind.CED]
    modulated: list[Part] = [((2100.0,), 3000)]
    carrier = array("h", sound(modulated, dbm0=-15))
    lines = [array("h", sound([((2100.0 + side,), 3000)], dbm0=-15)) for side in (-15, 15)]
    mixed = [round(c + swing * (a + b)) for c, a, b in zip(carrier, *lines, strict=True)]
    assert kinds(heard(array("h", mixed).tobytes())) == [ToneKind.CED]


def test_too_quiet_is_nothing() -> None:
    busy = parts_of(tone_of("ru", ToneKind.BUSY), 5000)
    assert kinds(heard(sound(busy, dbm0=-38))) == [ToneKind.BUSY]
    assert heard(sound(busy, dbm0=-50)) == []
    assert ToneDetector(TABLE.of("ru"), floor_dbfs=-60).feed(sound(busy, dbm0=-50)) != []


def _mixture(tones: Tones, seed: int) -> bytes:
    source = random.Random(seed)
    pcm = b""
    while len(pcm) < 6000 * 16:
        tone = source.choice(tones)
        pcm += sound(parts_of(tone, 2500), dbm0=source.uniform(-35, -10), noise_dbm0=-55)[
            : source.randrange(500, 3000) * 16 + source.randrange(2)
        ]
    return pcm


@given(st.lists(st.integers(1, 3000), max_size=40), st.integers(0, 7))
@settings(max_examples=30, deadline=None)
def test_pieces_of_any_length_give_the_same(sizes: list[int], seed: int) -> None:
    pcm = _mixture(TABLE.of("ru"), seed)
    whole = ToneDetector(TABLE.of("ru"))
    expected = whole.feed(pcm)
    pieces, found, place = ToneDetector(TABLE.of("ru")), [], 0
    for size in [*sizes, len(pcm)]:
        found += pieces.feed(pcm[place : place + size])
        place += size
    assert found == expected
    assert pieces.now_ms == whole.now_ms


@given(st.binary(max_size=30_000), st.sampled_from(["ru", "us", "gb", "xx"]))
@settings(max_examples=50, deadline=None)
def test_whatever_comes_events_stand_in_order(data: bytes, country: str) -> None:
    detector = ToneDetector(TABLE.of(country))
    at_ms, active = 0, None
    for event in detector.feed(data):
        assert at_ms <= event.at_ms <= detector.now_ms
        at_ms = event.at_ms
        if isinstance(event, ToneEnded):
            assert event.kind is active
            active = None
        elif event.kind is not ToneKind.SIT:
            assert active is None
            active = event.kind
    assert detector.active is active
