"""asterisk/fork_audio.c: resampling, gain, mixing by time; proven by tones."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator

import pytest

from tests import native

READ, WRITE = 0, 1
CELL = ctypes.c_int16 * 160


class Mixer:
    """The C mixer; times in µs, samples as lists of ints."""

    def __init__(
        self, lib: ctypes.CDLL, read: bool, write: bool, gains: tuple[int, int], stereo: bool,
        rate: int,
    ) -> None:  # fmt: skip
        lib.mixer_new.restype = ctypes.c_void_p
        self.lib = lib
        self.samples = rate // 50 * (2 if stereo else 1)
        self.handle = ctypes.c_void_p(lib.mixer_new(read, write, *gains, stereo, rate))

    def close(self) -> None:
        self.lib.mixer_free(self.handle)

    def push(
        self, direction: int, time_us: int, samples: list[int], rate: int = 8000, mute: bool = False
    ) -> None:
        """One captured frame, in cells of up to 160 samples."""
        for start in range(0, len(samples), 160):
            part = samples[start : start + 160]
            cell = CELL(*part)
            self.lib.mixer_push(
                self.handle, direction, ctypes.c_ulonglong(time_us), rate, int(mute), cell,
                len(part),
            )  # fmt: skip

    def pull(self, now_us: int) -> list[list[int]]:
        """All frames that are due."""
        return self._frames(
            lambda f: self.lib.mixer_pull(self.handle, ctypes.c_ulonglong(now_us), f)
        )

    def drain(self) -> list[list[int]]:
        """All that is left."""
        return self._frames(lambda f: self.lib.mixer_drain(self.handle, f))

    def waits(self) -> bool:
        return bool(self.lib.mixer_waits(self.handle))

    def _frames(self, take: Callable[[ctypes.Array[ctypes.c_int16]], int]) -> list[list[int]]:
        frames = []
        frame = (ctypes.c_int16 * self.samples)()
        while take(frame):
            frames.append(list(frame))
        return frames


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("pure") / "pure.so"
    parts = ["fork_audio", "fork_url", "fork_options"]
    return ctypes.CDLL(str(native.build(target, "pure.c", parts, ["m"], ["-fPIC", "-shared"])))


MakeMixer = Callable[..., Mixer]


@pytest.fixture
def mixer(lib: ctypes.CDLL) -> Iterator[MakeMixer]:
    made: list[Mixer] = []

    def make(
        read: bool = True, write: bool = False, gains: tuple[int, int] = (0, 0),
        stereo: bool = False, rate: int = 8000,
    ) -> Mixer:  # fmt: skip
        made.append(Mixer(lib, read, write, gains, stereo, rate))
        return made[-1]

    yield make
    for one in made:
        one.close()


def tone(hz: float, rate: int, samples: int, amplitude: int = 8000) -> list[int]:
    return [round(amplitude * math.sin(2 * math.pi * hz * i / rate)) for i in range(samples)]


def level(samples: list[int], hz: float, rate: int = 8000) -> float:
    """Amplitude of one frequency in the samples."""
    w = 2 * math.pi * hz / rate
    re = sum(v * math.cos(w * i) for i, v in enumerate(samples))
    im = sum(v * math.sin(w * i) for i, v in enumerate(samples))
    return 2 * math.hypot(re, im) / len(samples)


def through(mixer: Mixer, samples: list[int], rate: int) -> list[int]:
    """A direction of its own, 20 ms at a time; the first and last frame cut off."""
    out: list[list[int]] = []
    size = rate // 50
    for n in range(0, len(samples), size):
        mixer.push(READ, n * 1000000 // rate, samples[n : n + size], rate)
        out += mixer.pull(n * 1000000 // rate)
    out += mixer.drain()
    assert len(out) == len(samples) // size
    return [value for frame in out[1:-1] for value in frame]


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 32000, 44100, 48000, 96000, 192000])
def test_a_tone_keeps_its_pitch_and_level_at_any_rate(mixer: MakeMixer, rate: int) -> None:
    out = through(mixer(), tone(1000, rate, rate), rate)
    assert level(out, 1000) == pytest.approx(8000, rel=0.01)
    assert level(out, 1500) < 20


@pytest.mark.parametrize("rate", [8000, 12000, 16000, 24000, 44100, 48000, 192000])
def test_a_tone_keeps_its_pitch_and_level_at_16_khz_too(mixer: MakeMixer, rate: int) -> None:
    out = through(mixer(rate=16000), tone(1000, rate, rate), rate)
    assert level(out, 1000, 16000) == pytest.approx(8000, rel=0.01)
    assert level(out, 7000, 16000) < 20  # the image of an 8 kHz channel
    if rate > 16000:
        out = through(mixer(rate=16000), tone(6500, rate, rate), rate)
        assert level(out, 6500, 16000) == pytest.approx(8000, rel=0.03)
        out = through(mixer(rate=16000), tone(9500, rate, rate), rate)
        assert max(abs(value) for value in out) < 80


def test_16_khz_passes_unchanged(mixer: MakeMixer) -> None:
    samples = tone(440, 16000, 16000)
    assert through(mixer(rate=16000), samples, 16000) == samples[320:-320]


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
def test_what_8_khz_cannot_carry_does_not_come_back_as_another_tone(
    mixer: MakeMixer, rate: int
) -> None:
    out = through(mixer(), tone(5000, rate, rate), rate)
    assert max(abs(value) for value in out) < 80  # 40 dB down


def test_8_khz_passes_unchanged(mixer: MakeMixer) -> None:
    samples = tone(440, 8000, 8000)
    assert through(mixer(), samples, 8000) == samples[160:-160]


def test_the_rate_may_change_during_the_call(mixer: MakeMixer) -> None:
    one = mixer()
    frames = []
    for n, rate in enumerate([8000, 8000, 48000, 48000, 8000, 16000]):
        one.push(READ, n * 20000, [1000] * (rate // 50), rate)
        frames += one.pull(n * 20000)
    frames += one.drain()
    assert len(frames) in (6, 7)
    # A new filter takes 2 ms to fill; nothing else may be heard of the change.
    samples = [value for frame in frames for value in frame][: 6 * 160 - 60]
    assert sum(abs(value - 1000) < 60 for value in samples) > 0.85 * len(samples)
    assert max(samples) < 1200 and min(samples) > -200


@pytest.mark.parametrize(("steps", "factor"), [(-4, 1 / 16), (-1, 0.5), (0, 1), (1, 2), (4, 16)])
def test_gain_is_in_steps_of_6_db(mixer: MakeMixer, steps: int, factor: float) -> None:
    one = mixer(gains=(steps, 0))
    one.push(READ, 0, [160] * 160)
    assert one.pull(0) == [[round(160 * factor)] * 160]


def test_gain_saturates(mixer: MakeMixer) -> None:
    one = mixer(gains=(4, 0))
    one.push(READ, 0, [30000, -30000] * 80)
    assert one.pull(0) == [[32767, -32768] * 80]


def test_frames_of_other_lengths_become_20_ms(mixer: MakeMixer) -> None:
    one = mixer()
    frames = []
    for n in range(8):  # 30 ms each
        one.push(READ, n * 30000, [n] * 240)
        frames += one.pull(n * 30000)
    assert len(frames) == 12
    assert one.drain() == []


def test_the_last_part_of_a_frame_is_filled_with_silence(mixer: MakeMixer) -> None:
    one = mixer()
    one.push(READ, 0, [5] * 80)
    assert one.pull(0) == []
    assert one.drain() == [[5] * 80 + [0] * 80]


def test_a_muted_cell_is_silence_of_the_same_length(mixer: MakeMixer) -> None:
    one = mixer()
    one.push(READ, 0, [5] * 160, mute=True)
    assert one.pull(0) == [[0] * 160]


def test_both_directions_are_added(mixer: MakeMixer) -> None:
    one = mixer(write=True, gains=(0, 1))
    frames = []
    for n in range(5):
        one.push(READ, n * 20000, [100] * 160)
        frames += one.pull(n * 20000)
        one.push(WRITE, n * 20000 + 9000, [10] * 160)
        frames += one.pull(n * 20000 + 9000)
    # The very first frame does not wait for a direction that may never come.
    assert frames == [[100] * 160] + [[120] * 160] * 4


def test_the_mix_saturates(mixer: MakeMixer) -> None:
    one = mixer(write=True)
    one.push(WRITE, 0, [-30000] * 80)
    one.push(READ, 0, [-30000] * 160)
    assert one.pull(0) == []
    one.push(WRITE, 0, [-30000] * 80)
    assert one.pull(0) == [[-32768] * 160]


def test_a_stalled_direction_is_waited_for_60_ms_and_not_longer(mixer: MakeMixer) -> None:
    one = mixer(write=True)
    one.push(WRITE, 0, [10] * 160)
    one.push(READ, 0, [1] * 160)
    assert len(one.pull(0)) == 1
    count = []
    for n in range(1, 10):  # now only READ comes
        one.push(READ, n * 20000, [1] * 160)
        count.append(len(one.pull(n * 20000)))
    assert count == [0, 0, 0, 4, 1, 1, 1, 1, 1]


def test_a_frame_held_back_comes_out_when_the_clock_says_so(mixer: MakeMixer) -> None:
    one = mixer(write=True)
    one.push(WRITE, 0, [10] * 160)
    assert len(one.pull(0)) == 1
    one.push(READ, 20000, [1] * 160)
    one.push(READ, 40000, [1] * 160)
    assert one.pull(40000) == []
    assert one.waits()
    assert one.pull(60000) == []
    assert len(one.pull(60001)) == 2
    assert not one.waits()


def test_a_direction_that_runs_ahead_is_held_at_100_ms(mixer: MakeMixer) -> None:
    one = mixer(write=True)
    one.push(WRITE, 0, [0] * 160)
    assert len(one.pull(0)) == 1
    taken = 0
    for _ in range(50):  # a burst: one second of READ, while WRITE is not stalled
        one.push(READ, 1000, [1] * 160)
        taken += len(one.pull(1000))
    assert taken == 45
    assert len(one.drain()) == 5


# -- stereo


def test_stereo_has_the_caller_s_voice_on_the_left(mixer: MakeMixer) -> None:
    one = mixer(write=True, stereo=True, gains=(0, 1))
    frames = []
    for n in range(5):
        one.push(READ, n * 20000, [100] * 160)
        frames += one.pull(n * 20000)
        one.push(WRITE, n * 20000 + 9000, [10] * 160)
        frames += one.pull(n * 20000 + 9000)
    assert frames == [[100, 0] * 160] + [[100, 20] * 160] * 4


def test_in_stereo_a_stalled_direction_is_silence_after_60_ms(mixer: MakeMixer) -> None:
    one = mixer(write=True, stereo=True)
    one.push(READ, 0, [1] * 160)
    one.push(WRITE, 0, [10] * 160)
    assert one.pull(0) == [[1, 10] * 160]
    count = []
    for n in range(1, 6):  # now only WRITE comes
        one.push(WRITE, n * 20000, [10] * 160)
        count.append(one.pull(n * 20000))
    assert [len(frames) for frames in count] == [0, 0, 0, 4, 1]
    assert count[4] == [[0, 10] * 160]
    one.push(READ, 120000, [1] * 240)
    assert one.drain() == [[1, 0] * 160, [1, 0] * 80 + [0, 0] * 80]


def test_stereo_at_16_khz_from_directions_of_other_rates(mixer: MakeMixer) -> None:
    one = mixer(write=True, stereo=True, rate=16000)
    frames: list[list[int]] = []
    for n in range(50):
        one.push(READ, n * 20000, tone(1000, 8000, 160), 8000)
        one.push(WRITE, n * 20000, tone(500, 48000, 960), 48000)
        frames += one.pull(n * 20000)
    assert len(frames) in (49, 50)
    samples = [value for frame in frames[5:] for value in frame]
    assert level(samples[::2], 1000, 16000) == pytest.approx(8000, rel=0.01)
    assert level(samples[1::2], 500, 16000) == pytest.approx(8000, rel=0.01)
    assert level(samples[::2], 500, 16000) < 80
    assert level(samples[1::2], 1000, 16000) < 80
