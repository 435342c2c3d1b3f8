"""asterisk/fork_play.c, fork_fill.c, fork_player.c, fork_prompt.c: prompts, sample by sample."""

from __future__ import annotations

import ctypes
import json
import os
import random
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import native

PARTS = ["fork_fill", "fork_guard", "fork_keys", "fork_play", "fork_player", "fork_prompt"]
AUDIO, WAIT, PAUSED, OVER = range(4)
END, CLEAR, DIGIT, TIMEOUT, HANGUP, LOST = range(6)
ATTACHED, ATTACH_OVER, BUSY = range(3)
FRAME = 160


def load(target: Path) -> ctypes.CDLL:
    flags = ["-fPIC", "-shared"]
    lib = ctypes.CDLL(str(native.build(target, "play.c", PARTS, [], flags)))
    lib.fork_play_new.restype = lib.guard_new.restype = ctypes.c_void_p
    lib.play_guard.restype = ctypes.c_char_p
    lib.fork_play_total_ms.restype = ctypes.c_uint64
    lib.fork_play_whispers.restype = ctypes.c_bool
    lib.fork_play_whisper.restype = ctypes.c_bool
    lib.fork_play_full.restype = lib.fork_play_has_room.restype = ctypes.c_bool
    lib.fork_play_calls.restype = ctypes.c_bool
    for name in ("open", "write", "mark"):
        getattr(lib, f"fork_play_{name}").restype = ctypes.c_char_p
    return lib


def pcm(samples: list[int]) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


class Play:
    """The prompts of one fork."""

    def __init__(self, lib: ctypes.CDLL, buffer_ms: int) -> None:
        self.lib = lib
        self.handle = ctypes.c_void_p(lib.fork_play_new(buffer_ms))
        self.guard_handle = ctypes.c_void_p(lib.guard_new())
        lib.fork_play_set_guard(self.handle, self.guard_handle)
        self.now_us = 1_000_000

    # -- the server

    def open(self, name: str, rate: int = 8000, *, whisper: bool = False, live: int = 0) -> str:
        why = self.lib.fork_play_open(self.handle, name.encode(), rate, whisper, live)
        return why.decode() if why else ""

    def write(self, audio: list[int] | bytes, final: bool = True) -> str:
        data = audio if isinstance(audio, bytes) else pcm(audio)
        size = ctypes.c_size_t(len(data))
        why = self.lib.fork_play_write(self.handle, data, size, ctypes.c_bool(final))
        return why.decode() if why else ""

    def end(self, name: str) -> None:
        self.lib.fork_play_end(self.handle, name.encode())

    def mark(self, name: str, mark: str, at_ms: int = -1) -> str:
        at = ctypes.c_int64(at_ms)
        why = self.lib.fork_play_mark(self.handle, name.encode(), mark.encode(), at)
        return why.decode() if why else ""

    def guard(self, name: str, guard: str, mode: str, at_ms: int = -1) -> str:
        at = ctypes.c_longlong(at_ms)
        why = self.lib.play_guard(self.handle, name.encode(), guard.encode(), mode.encode(), at)
        return why.decode() if why else ""

    def guards(self) -> list[str]:
        """What came in force since the last look: "name mode place play played_ms"."""
        found: list[str] = []
        room = ctypes.create_string_buffer(300)
        while True:
            self.lib.guard_told(self.guard_handle, room, ctypes.c_size_t(300))
            if not room.value:
                return found
            found.append(room.value.decode().split(" ", 1)[1])

    def clear(self, name: str = "") -> None:
        self.lib.fork_play_clear(self.handle, name.encode())

    def pause(self, name: str, on: bool = True) -> None:
        self.lib.fork_play_pause(self.handle, name.encode(), ctypes.c_bool(on))

    def lost(self, for_good: bool = False) -> None:
        self.lib.fork_play_lost(self.handle, ctypes.c_bool(for_good))

    def shut(self) -> None:
        self.lib.fork_play_shut(self.handle)

    def full(self) -> bool:
        return bool(self.lib.fork_play_full(self.handle))

    def has_room(self) -> bool:
        return bool(self.lib.fork_play_has_room(self.handle))

    def calls(self) -> bool:
        return bool(self.lib.fork_play_calls(self.handle))

    def news(self) -> list[str]:
        found: list[str] = []
        room = ctypes.create_string_buffer(300)
        while True:
            self.lib.play_news(self.handle, room, ctypes.c_size_t(300))
            if not room.value:
                return found
            found.append(room.value.decode())

    # -- the channel

    def attach(self, name: str = "", eventfd: int = -1) -> Player:
        result, player = self.try_attach(name, eventfd)
        assert result == (ATTACHED, -1), result
        return player

    def try_attach(self, name: str = "", eventfd: int = -1) -> tuple[tuple[int, int], Player]:
        prompt, how = ctypes.c_void_p(), ctypes.c_int(-1)
        result = self.lib.fork_play_attach(
            self.handle, name.encode(), eventfd, ctypes.byref(prompt), ctypes.byref(how)
        )
        return (result, how.value if result == ATTACH_OVER else -1), Player(self, prompt)

    def whisper(self, samples: list[int], rate: int = 8000) -> tuple[bool, list[int]]:
        room = (ctypes.c_int16 * len(samples))(*samples)
        changed = self.lib.fork_play_whisper(
            self.handle, room, ctypes.c_size_t(len(samples)), rate, ctypes.c_uint64(self.now_us)
        )
        return bool(changed), list(room)

    @property
    def whispers(self) -> bool:
        return bool(self.lib.fork_play_whispers(self.handle))


@dataclass
class Player:
    play: Play
    prompt: ctypes.c_void_p

    def take(self, count: int = FRAME) -> tuple[int, list[int]]:
        room, size = (ctypes.c_int16 * max(count, 1))(), ctypes.c_size_t(count)
        result = self.play.lib.fork_play_take(
            self.play.handle, self.prompt, room, ctypes.byref(size),
            ctypes.c_uint64(self.play.now_us),
        )  # fmt: skip
        return result, list(room[: size.value]) if result == AUDIO else []

    def all(self) -> list[int]:
        """All that is there."""
        heard: list[int] = []
        while (step := self.take())[0] == AUDIO:
            heard += step[1]
        return heard

    def rate(self) -> int:
        return int(self.play.lib.fork_play_rate(self.play.handle, self.prompt))

    def detach(self, how: int = HANGUP) -> tuple[int, int]:
        """How it has ended, and how many ms were played."""
        played = ctypes.c_uint64()
        result = self.play.lib.fork_play_detach(
            self.play.handle, self.prompt, how, ctypes.byref(played)
        )
        return result, played.value


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return load(tmp_path_factory.mktemp("play") / "play.so")


MakePlay = Callable[..., Play]


@pytest.fixture
def make(lib: ctypes.CDLL) -> Iterator[MakePlay]:
    made: list[Play] = []

    def one(buffer_ms: int = 4000) -> Play:
        made.append(Play(lib, buffer_ms))
        return made[-1]

    yield one
    for play in made:
        lib.fork_play_free(play.handle)
        lib.guard_free(play.guard_handle)


@pytest.fixture
def play(make: MakePlay) -> Play:
    return make()


def count_from(first: int, many: int) -> list[int]:
    return [(first + n) % 30_000 for n in range(many)]


# -- one prompt


def test_each_sample_comes_out_once_in_frames_the_last_one_short(play: Play) -> None:
    audio = count_from(1, 5 * FRAME + 7)
    assert play.open("a") == ""
    assert play.write(audio) == ""
    player = play.attach("a")
    frames = [player.take() for _ in range(6)]
    assert frames[-1] == (WAIT, [])
    assert [value for _, frame in frames for value in frame] == audio[: 5 * FRAME]
    play.end("a")
    assert player.take() == (AUDIO, audio[5 * FRAME :])
    assert player.take() == (OVER, [])
    assert player.detach() == (END, 100)
    assert play.news() == ["started a", "played a end 100 0 0"]
    assert play.lib.fork_play_total_ms(play.handle) == 100


@pytest.mark.parametrize("chunk", [1, 3, 7, 319, 321, 4096])
def test_a_sample_may_be_cut_in_two(play: Play, chunk: int) -> None:
    audio = count_from(-500, 3 * FRAME)
    data = pcm(audio)
    play.open("a")
    for start in range(0, len(data), chunk):
        assert play.write(data[start : start + chunk], start + chunk >= len(data)) == ""
    assert play.attach("a").all() == audio


def test_a_message_of_an_odd_length_is_an_error_and_shifts_nothing(play: Play) -> None:
    play.open("a")
    assert play.write(pcm([1] * FRAME) + b"x") == "an odd number of bytes"
    assert play.write([2] * FRAME) == ""
    assert play.attach("a").all() == [1] * FRAME + [2] * FRAME


def test_audio_wants_an_open_prompt(play: Play) -> None:
    assert play.write([1] * FRAME) == "no prompt is open"
    play.open("a")
    assert play.write([1] * FRAME) == ""
    play.end("a")
    assert play.write([1] * FRAME) == "no prompt is open"


def test_a_prompt_ends_the_one_before(play: Play) -> None:
    play.open("a")
    play.write([1] * FRAME)
    play.open("b")
    play.write([2] * FRAME)
    a, b = play.attach("a"), play.attach("b")
    assert b.all() == [2] * FRAME
    assert a.all() == [1] * FRAME
    assert (a.detach(), b.detach(TIMEOUT)) == ((END, 20), (TIMEOUT, 20))


def test_the_audio_may_come_after_its_player(play: Play) -> None:
    player = play.attach("a")
    assert (player.rate(), player.take(0)) == (0, (WAIT, []))
    play.open("a", 16_000)
    assert (player.rate(), player.take(0)) == (16_000, (WAIT, []))
    play.write([1] * 320)
    assert player.take(320) == (AUDIO, [1] * 320)
    assert player.detach(DIGIT) == (DIGIT, 20)
    assert play.news() == ["started a", "played a digit 20 0 0"]


def test_the_oldest_is_taken_when_none_is_named(play: Play) -> None:
    for name in ("a", "b"):
        play.open(name)
        play.write([ord(name)] * FRAME)
        play.end(name)
    first, second = play.attach(), play.attach()
    assert (first.all(), second.all()) == ([ord("a")] * FRAME, [ord("b")] * FRAME)


def test_or_the_next_to_come(play: Play) -> None:
    player = play.attach()
    play.open("w", whisper=True)
    assert player.rate() == 0
    play.open("a")
    play.write([1] * FRAME)
    assert player.take() == (AUDIO, [1] * FRAME)
    player.detach()
    assert play.news() == ["started a", "played a hangup 20 0 0"]


def test_one_player_for_a_prompt(play: Play) -> None:
    play.open("a")
    play.attach("a")
    assert play.try_attach("a")[0] == (BUSY, -1)
    play.open("w", whisper=True)
    assert play.try_attach("w")[0] == (BUSY, -1)


def test_eight_prompts_and_no_more(play: Play) -> None:
    assert [play.open(f"p{n}") for n in range(8)] == [""] * 8
    assert play.open("p8") == "too many prompts are open"
    assert play.open("p7") == "a prompt of this id is open"
    play.clear("p3")
    play.news()
    assert play.open("p8") == ""


def test_what_comes_for_a_prompt_that_is_over_is_passed_over(play: Play) -> None:
    play.open("a")
    play.write([1] * FRAME)
    player = play.attach("a")
    player.take()
    player.detach(DIGIT)
    assert play.write([1] * FRAME) == ""
    assert play.mark("a", "m") == ""
    play.end("a")
    play.pause("a")
    assert play.news() == ["started a", "played a digit 20 0 0"]
    assert play.try_attach("a")[0] == (ATTACHED, -1)


# -- marks, reports


def test_marks_come_in_order_and_at_their_sample(play: Play) -> None:
    play.open("a")
    play.mark("a", "start")
    play.write([0] * 400)
    play.mark("a", "mid")
    play.write([0] * 560)
    play.mark("a", "end")
    play.mark("a", "at-30", 30)
    play.mark("a", "never", 500)
    player = play.attach("a")
    assert play.news() == []
    told = []
    for _ in range(6):
        player.take()
        told.append([row for row in play.news() if row.startswith("mark")])
    assert told == [
        ["mark a start 0"], ["mark a at-30 30"], ["mark a mid 50"], [], [], ["mark a end 120"],
    ]  # fmt: skip
    play.mark("a", "past", 10)
    assert play.news() == ["mark a past 120"]
    play.end("a")
    assert player.take()[0] == OVER
    assert play.news() == ["played a end 120 0 0"]


def test_marks_of_a_prompt_without_audio_are_reached_at_its_end(play: Play) -> None:
    play.open("a")
    play.mark("a", "m")
    play.end("a")
    assert play.attach("a").take() == (OVER, [])
    assert play.news() == ["mark a m 0", "played a end 0 0 0"]


def test_a_hundred_and_twenty_eight_marks(play: Play) -> None:
    play.open("a")
    assert [play.mark("a", f"m{n}") for n in range(128)] == [""] * 128
    assert play.mark("a", "more") == "too many marks"
    play.clear("a")
    play.news()
    play.open("b")
    assert play.mark("b", "m") == ""


def test_a_report_each_half_second(play: Play) -> None:
    play.open("a")
    play.write([0] * 16_000)
    player = play.attach("a")
    told = []
    for _ in range(100):
        player.take()
        told += play.news()
    assert told == [
        "started a", "buffer a 500 1500", "buffer a 1000 1000", "buffer a 1500 500",
        "buffer a 2000 0",
    ]  # fmt: skip


def test_a_gap_is_measured_and_its_end_reported(play: Play) -> None:
    play.open("a")
    player = play.attach("a")
    assert player.take()[0] == WAIT  # before the first sound it is no gap
    play.now_us += 700_000
    play.write([1] * FRAME)
    assert player.take()[0] == AUDIO
    play.now_us += 20_000
    assert player.take()[0] == WAIT
    play.now_us += 30_000
    assert player.take()[0] == WAIT
    play.now_us += 35_000
    play.write([2] * FRAME)
    assert player.take() == (AUDIO, [2] * FRAME)
    assert player.take()[0] == WAIT
    play.now_us += 10_000_000  # after the last sound it is none either
    play.end("a")
    assert player.take()[0] == OVER
    player.detach()
    assert play.news() == ["started a", "played a end 40 65 0"]


# -- clear, pause, live


def test_clear_ends_it_in_the_midst(play: Play) -> None:
    play.open("a")
    play.write([1] * 10 * FRAME)
    player = play.attach("a")
    player.take()
    play.clear("a")
    assert play.news() == ["started a", "played a clear 20 0 0"]
    assert player.take() == (OVER, [])
    assert play.open("a") == "", "its id is free before its player has noticed"
    assert player.detach(TIMEOUT) == (CLEAR, 20)
    assert play.write([2] * FRAME) == ""
    assert play.attach("a").take() == (AUDIO, [2] * FRAME)


def test_clear_of_one_that_waits_or_is_yet_to_come(play: Play) -> None:
    play.open("a")
    play.write([1] * FRAME)
    play.clear("a")
    assert play.news() == ["played a clear 0 0 0"]
    play.clear("b")
    assert play.news() == []
    for name in ("a", "b"):
        assert play.try_attach(name)[0] == (ATTACH_OVER, CLEAR)
        assert play.try_attach(name)[0] == (ATTACHED, -1), "once only"


def test_a_clear_is_remembered_until_its_prompt_is_opened_anew(play: Play) -> None:
    play.clear("a")
    play.open("a")
    play.write([1] * FRAME)
    assert play.attach("a").take()[0] == AUDIO


def test_eight_clears_are_remembered(play: Play) -> None:
    for n in range(9):
        play.clear(f"c{n}")
    assert play.try_attach("c0")[0] == (ATTACHED, -1)
    assert play.try_attach("c1")[0] == (ATTACH_OVER, CLEAR)


def test_clear_of_all(play: Play) -> None:
    waits, any_one = play.attach("waits"), play.attach()
    play.open("any")
    play.open("a")
    play.open("w", whisper=True)
    play.clear()
    assert {waits.take()[0], any_one.take()[0]} == {OVER}
    assert not play.whispers
    assert sorted(play.news()) == [
        f"played {name} clear 0 0 0" for name in ("a", "any", "w", "waits")
    ]
    assert play.try_attach("a")[0] == (ATTACH_OVER, CLEAR)


def test_pause_goes_on_at_the_very_sample(play: Play) -> None:
    audio = count_from(0, 4 * FRAME)
    play.open("a")
    play.write(audio)
    player = play.attach("a")
    heard = player.take()[1]
    play.pause("a")
    assert player.take() == (PAUSED, [])
    play.now_us += 5_000_000
    play.pause("a", False)
    heard += player.all()
    assert heard == audio
    play.end("a")
    player.take()
    assert play.news()[-1] == "played a end 80 0 0"


def test_live_audio_leaves_out_what_is_too_old(play: Play) -> None:
    audio = count_from(0, 10 * FRAME)
    play.open("a", live=40)
    play.mark("a", "skipped", 20)
    play.write(audio)
    player = play.attach("a")
    assert player.all() == audio[8 * FRAME :]
    player.detach(TIMEOUT)
    assert play.news() == ["started a", "mark a skipped 0", "played a timeout 40 0 160"]


def test_live_audio_never_fills_the_buffer(make: MakePlay) -> None:
    play = make(buffer_ms=200)
    play.open("a", live=100)
    for _ in range(50):
        play.write([1] * 10 * FRAME)
        assert not play.full()


# -- flow


def test_full_and_room_again(make: MakePlay) -> None:
    play = make(buffer_ms=200)
    play.open("a")
    for _ in range(9):
        play.write([1] * FRAME)
        assert not play.full()
    play.write([1] * FRAME)
    assert play.full()
    player = play.attach("a")
    play.news()
    for _ in range(2):
        player.take()
    play.news()
    assert not play.has_room()
    player.take()
    assert play.calls()
    assert play.has_room()
    assert not play.has_room(), "once"


def test_a_clear_makes_room(make: MakePlay) -> None:
    play = make(buffer_ms=200)
    play.open("a")
    play.write([1] * 10 * FRAME)
    assert play.full()
    play.clear("a")
    assert play.calls()
    assert play.has_room()


def test_the_buffer_counts_in_the_prompts_own_rate(make: MakePlay) -> None:
    play = make(buffer_ms=200)
    play.open("a", 48_000)
    play.write([1] * 960 * 9)
    assert not play.full()
    play.write([1] * 960)
    assert play.full()


def test_whoever_does_not_stop_is_stopped(make: MakePlay) -> None:
    play = make(buffer_ms=200)
    play.open("a")
    told = {play.write([1] * 8000) for _ in range(5)}
    assert told == {"", "more than the buffer holds"}


def test_the_player_is_woken(play: Play) -> None:
    wake = os.eventfd(0, os.EFD_NONBLOCK)

    def woken() -> bool:
        try:
            return os.eventfd_read(wake) > 0
        except BlockingIOError:
            return False

    player = play.attach("a", wake)
    player.take(0)
    play.open("a")
    assert woken()
    player.take()
    play.write([1] * 3 * FRAME)
    assert woken()
    player.take()
    play.write([1] * FRAME)
    assert not woken(), "it does not sleep"
    play.pause("a")
    player.take()
    play.pause("a", False)
    assert woken()
    player.take()
    play.clear("a")
    assert woken(), "a clear is heard of at once"
    player.detach()
    os.close(wake)


# -- the connection is lost


def test_without_its_end_a_prompt_is_lost_after_what_has_come(play: Play) -> None:
    for name in ("a", "b", "c"):
        play.open(name)
        play.write([1] * FRAME)
        if name == "a":
            play.end(name)
    play.clear("b")
    play.open("empty")
    play.news()
    waits = play.attach("waits")
    play.lost()
    # `c` was ended by `empty`
    assert play.news() == ["played empty lost 0 0 0"]
    a, c = play.attach("a"), play.attach("c")
    assert (a.all(), a.detach()) == ([1] * FRAME, (END, 20))
    assert (c.all(), c.detach()) == ([1] * FRAME, (END, 20))
    assert waits.take(0)[0] == WAIT, "the next connection may bring it"
    play.lost(for_good=True)
    assert (waits.take(0)[0], waits.detach()) == (OVER, (LOST, 0))
    assert play.try_attach("more")[0] == (ATTACH_OVER, LOST)


def test_lost_in_the_midst(play: Play) -> None:
    play.open("a")
    play.write([1] * (FRAME + 10))
    player = play.attach("a")
    play.lost()
    assert play.write([1] * FRAME) == "no prompt is open"
    assert player.all() == [1] * (FRAME + 10)
    assert player.detach() == (LOST, 21)


@pytest.mark.parametrize("ended", [False, True])
def test_lost_in_a_pause(play: Play, ended: bool) -> None:
    """Nobody can resume it any more: it goes on, and the application does not wait for ever."""
    play.open("a")
    play.write([1] * 2 * FRAME)
    if ended:
        play.end("a")
    player = play.attach("a")
    player.take()
    play.pause("a")
    assert player.take() == (PAUSED, [])
    play.lost()
    assert player.all() == [1] * FRAME
    assert player.detach() == (END if ended else LOST, 40)


def test_a_fork_that_is_stopped_ends_all_at_once(play: Play) -> None:
    play.open("a")
    play.write([1] * 10 * FRAME)
    player = play.attach("a")
    player.take()
    play.shut()
    assert (player.take()[0], player.detach()) == (OVER, (LOST, 20))
    assert play.open("b") == "the fork is being stopped"
    assert play.try_attach("b")[0] == (ATTACH_OVER, LOST)


# -- whispers


def test_a_whisper_is_mixed_in_and_saturates(play: Play) -> None:
    assert not play.whispers
    play.open("w", whisper=True)
    assert play.whispers
    play.write([100, -100, 30_000, -30_000])
    play.write([1] * 100)
    play.end("w")
    assert play.whisper([1, 1, 30_000, -30_000]) == (True, [101, -99, 32_767, -32_768])
    assert play.whisper([0] * FRAME) == (True, [1] * 100 + [0] * 60)
    assert play.whisper([7] * FRAME) == (False, [7] * FRAME)
    assert not play.whispers
    assert play.news() == ["started w", "played w end 13 0 0"]


def test_whispers_come_one_after_the_other(play: Play) -> None:
    for name in ("v", "w"):
        play.open(name, whisper=True)
        play.write([ord(name)] * FRAME)
    play.end("w")
    heard = [play.whisper([0] * FRAME)[1][0] for _ in range(3)]
    assert heard == [ord("v"), ord("w"), 0]
    assert [row for row in play.news() if row.startswith("played")] == [
        "played v end 20 0 0", "played w end 20 0 0",
    ]  # fmt: skip


def test_a_whisper_waits_and_pauses(play: Play) -> None:
    play.open("w", whisper=True)
    play.write([1] * 100)
    assert not play.whisper([0] * FRAME)[0]
    play.write([1] * 100)
    play.pause("w")
    assert not play.whisper([0] * FRAME)[0]
    play.pause("w", False)
    assert play.whisper([0] * FRAME) == (True, [1] * FRAME)


def test_a_whisper_of_another_rate_ends(play: Play) -> None:
    play.open("w", 16_000, whisper=True)
    play.write([1] * 640)
    assert play.whisper([0] * FRAME) == (False, [0] * FRAME)
    assert play.news() == ["wrong_rate w", "played w lost 0 0 0"]


def test_a_prompt_and_a_whisper_at_once(play: Play) -> None:
    play.open("a")
    play.write([5] * FRAME)
    play.open("w", whisper=True)
    play.write([3] * FRAME)
    frame = play.attach("a").take()[1]
    assert play.whisper(frame) == (True, [8] * FRAME)


# -- guards: marks that the player's own thread hands to the keys


@pytest.mark.parametrize(
    ("place", "begin"), [(0, 0), (9, 0), (10, 20), (20, 20), (29, 20), (30, 40), (69, 60), (70, 80)]
)
def test_a_guard_is_in_force_with_the_frame_that_begins_nearest(
    play: Play, place: int, begin: int
) -> None:
    play.open("a")
    play.guard("a", "g", "pass", place)
    play.guard("a", "never", "block", 90)
    play.write([0] * FRAME * 4)
    play.end("a")
    player = play.attach("a")
    assert play.guards() == [], "nothing is played yet"
    told = []
    for _ in range(5):  # the last one finds that it is over
        player.take()
        told.append(play.guards())  # before any news is asked for
    assert told.index([f"g pass place a {begin}"]) == begin // 20
    assert sum(map(len, told)) == 1


def test_a_guard_at_a_place_that_is_past_is_in_force_at_once(play: Play) -> None:
    play.open("a")
    play.write([0] * FRAME)
    play.attach("a").take()
    assert play.guard("a", "late", "off", 10) == ""
    assert play.guards() == ["late off place a 20"]


def test_guards_and_marks_at_one_place(play: Play) -> None:
    """Marks tell of what was handed out; a guard is in force when that has been played."""
    play.open("a")
    for number in range(3):
        play.guard("a", f"g{number}", "block", 20)
        play.mark("a", f"m{number}", 20)
    play.write([0] * FRAME * 2)
    player = play.attach("a")
    player.take()
    assert [row for row in play.news() if row.startswith("mark")] == [
        f"mark a m{number} 20" for number in range(3)
    ]
    assert play.guards() == []
    player.take()
    assert play.guards() == [f"g{number} block place a 20" for number in range(3)]
    assert not [row for row in play.news() if row.startswith("mark")]


def test_a_guard_at_the_end_of_what_was_sent(play: Play) -> None:
    play.open("a")
    play.write([0] * FRAME)
    play.guard("a", "g", "block")
    play.write([0] * FRAME)
    player = play.attach("a")
    player.take()
    assert play.guards() == []
    player.take()
    assert play.guards() == ["g block place a 20"]


def test_a_guard_waits_for_no_audio(play: Play) -> None:
    """What was handed out has been played when more is asked for, though there is none."""
    play.open("a")
    play.guard("a", "g", "block", 20)
    play.write([0] * FRAME)
    player = play.attach("a")
    player.take()
    assert play.guards() == []
    assert player.take()[0] == WAIT
    assert play.guards() == ["g block place a 20"]


@pytest.mark.parametrize("how", ["clear", "shut", "detach"])
def test_a_guard_comes_though_the_prompt_ends_within_half_a_frame(play: Play, how: str) -> None:
    play.open("a")
    play.guard("a", "g", "block", 15)
    play.write([0] * FRAME)
    player = play.attach("a")
    player.take()
    assert play.guards() == []
    if how == "detach":
        player.detach(DIGIT)
    elif how == "clear":
        play.clear("a")
    else:
        play.shut()
    assert play.guards() == ["g block place a 20"]


@pytest.mark.parametrize("how", ["clear", "shut", "lost", "detach", "end"])
def test_of_a_prompt_that_is_over_no_guard_comes(play: Play, how: str) -> None:
    play.open("a")
    play.guard("a", "g", "block", 60)
    play.write([0] * FRAME)
    player = play.attach("a")
    player.take()
    if how == "detach":
        player.detach(DIGIT)
    elif how in ("end", "clear"):
        getattr(play, how)("a")
    else:
        getattr(play, how)()
    player.take()
    assert play.guards() == []
    play.news()
    assert play.guard("a", "g", "block", 0) == "", "it may just have ended"
    assert play.guards() == []


def test_a_pause_holds_its_guards(play: Play) -> None:
    play.open("a")
    play.guard("a", "g", "block", 40)
    play.write([0] * FRAME * 2)
    player = play.attach("a")
    player.take()
    play.pause("a")
    assert player.take()[0] == PAUSED
    assert play.guards() == []
    play.pause("a", False)
    player.take()
    assert play.guards() == []
    play.pause("a")
    assert player.take()[0] == PAUSED
    assert play.guards() == ["g block place a 40"], "its place was played"


def test_a_skipped_place_is_reached(play: Play) -> None:
    play.open("a", live=20)
    play.guard("a", "g", "block", 100)
    play.write([0] * FRAME)
    player = play.attach("a")
    player.take()
    play.write([0] * FRAME * 10)
    assert play.guards() == ["g block place a 20"]


def test_a_guard_of_a_whisper(play: Play) -> None:
    play.open("w", whisper=True)
    play.guard("w", "g", "block", 20)
    play.write([1] * FRAME)
    play.whisper([0] * FRAME)
    assert play.guards() == []
    play.whisper([0] * FRAME)
    assert play.guards() == ["g block place w 20"]


def test_guards_count_among_the_marks(play: Play) -> None:
    play.open("a")
    for number in range(128):
        assert play.guard("a", f"g{number}", "block", 1000) == ""
    assert play.guard("a", "more", "block", 0) == "too many marks"
    assert play.mark("a", "more") == "too many marks"
    play.clear("a")
    play.news()
    play.open("b")
    for number in range(16):
        play.guard("b", f"g{number}", "block", 0)
    play.write([0] * FRAME)
    play.attach("b").take()
    play.news()
    for number in range(128):
        assert play.guard("b", f"h{number}", "block", 1000) == "", "reached ones are given back"


def test_without_keys_there_are_no_guards(make: MakePlay) -> None:
    play = make()
    play.lib.fork_play_set_guard(play.handle, None)
    play.open("a")
    assert play.guard("a", "g", "block", 0) == "the channel's keys are not seen"


# -- any sequence


@dataclass
class Model:
    """What must come out of one prompt: a list of samples, and where the marks are."""

    play: Play
    player: Player
    rate: int
    written: int = 0
    taken: int = 0
    played: int = 0
    skipped: int = 0
    live: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)  # place, number
    reached: list[str] = field(default_factory=list)
    number: int = 0

    def write(self, many: int) -> None:
        assert self.play.write(count_from(self.written, many)) == ""
        self.written += many
        self.skip()

    def skip(self) -> None:
        if self.live and self.written - self.taken > self.live:
            self.skipped += self.written - self.taken - self.live
            self.taken = self.written - self.live
            self.reach(self.taken, self.played)

    def mark(self, at_ms: int) -> None:
        self.number += 1
        assert self.play.mark("a", f"m{self.number}", at_ms) == ""
        self.marks.append((self.written if at_ms < 0 else at_ms * self.rate // 1000, self.number))
        self.marks.sort()
        self.reach(self.taken, self.played)

    def reach(self, taken: int, played: int) -> None:
        """Marks up to `self.taken`, of a step that began at TAKEN, PLAYED."""
        while self.played and self.marks and self.marks[0][0] <= self.taken:
            at, number = self.marks.pop(0)
            there = played + max(0, at - taken) if self.played > played else played
            self.reached.append(f"mark a m{number} {there * 1000 // self.rate}")

    def take(self, want: int, ended: bool) -> None:
        result, samples = self.player.take(want)
        left = self.written - self.taken
        if left < want and not ended:
            assert (result, samples) == (WAIT, [])
        elif not left:
            assert result == OVER
        else:
            assert result == AUDIO
            assert samples == count_from(self.taken, min(left, want))
            taken, played = self.taken, self.played
            self.taken += len(samples)
            self.played += len(samples)
            self.reach(taken, played)

    def step(self, dice: random.Random) -> None:
        frame = self.rate // 50
        match dice.choice("wwwtttttmp"):
            case "w":
                self.write(dice.choice([1, 7, frame, dice.randint(1, 10 * frame)]))
            case "t":
                self.take(frame, False)
            case "m" if len(self.marks) < 100:
                self.mark(dice.choice([-1, dice.randint(0, 2000)]))
            case "p":
                self.play.pause("a")
                assert self.player.take()[0] == PAUSED
                self.play.pause("a", False)

    def play_out(self) -> None:
        self.play.end("a")
        while self.taken < self.written:
            self.take(self.rate // 50, True)
        self.take(self.rate // 50, True)
        if not self.played:  # it has no start, but its marks are reached
            self.reached += [f"mark a m{number} 0" for at, number in self.marks if at == 0]
        assert self.played + self.skipped == self.written


@pytest.mark.parametrize("seed", range(60))
def test_any_sequence(make: MakePlay, seed: int) -> None:
    dice = random.Random(seed)
    play = make(100_000)
    rate = dice.choice([8000, 16_000, 24_000, 48_000])
    live_ms = dice.choice([0, 0, 60, 200])
    play.open("a", rate, live=live_ms)
    model = Model(play, play.attach("a"), rate, live=live_ms * rate // 1000)
    told: list[str] = []
    for _ in range(dice.randint(5, 150)):
        model.step(dice)
        told += play.news() if dice.random() < 0.1 else []
    if how := dice.choice(["", "clear"]):
        play.clear("a")
        assert model.player.take()[0] == OVER
    else:
        model.play_out()
    told += play.news()
    assert [row for row in told if row.startswith("mark")] == model.reached
    ms = [count * 1000 // rate for count in (model.played, model.skipped)]
    assert told[-1] == f"played a {how or 'end'} {ms[0]} 0 {ms[1]}"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_server_player_and_whisperer_at_once(tmp_path: Path, sanitizer: str) -> None:
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    hammer = native.build(tmp_path / "hammer", "play_hammer.c", PARTS, [], flags)
    done = subprocess.run([hammer, "600"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert told["over"] == told["wanted"] == 800
    assert 0 < told["cleared"] <= 120
    assert told["wishes"] > 600, "guards by their places"
