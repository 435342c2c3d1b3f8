"""asterisk/fork_guard.c: what a server orders for the keys, and what it is told of them."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import native

TAKE, RELEASE, STAY = range(3)
WISHES = 8
NOTES = 16
DIGITS = 64


class Guard:
    """The C side of one fork, and the clock of all."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        self.lib = lib
        self.handle = ctypes.c_void_p(lib.guard_new())
        self.clock(1_000)
        lib.guard_cells(ctypes.c_ulonglong(0))

    def clock(self, ms: int) -> None:
        self.lib.guard_clock(ctypes.c_ulonglong(ms))

    def now(self, name: str, mode: str, kept: int = TAKE, limit_ms: int = 0) -> str:
        """What is wrong."""
        why = self.lib.guard_now(self.handle, name.encode(), mode.encode(), kept, limit_ms)
        return why.decode() if why else ""

    def at(self, name: str, mode: str, play: str, played_ms: int, limit_ms: int = 0) -> None:
        self.lib.guard_at(self.handle, name.encode(), mode.encode(), limit_ms, play.encode(),
                          ctypes.c_ulonglong(played_ms))  # fmt: skip

    def key(self, digit: str) -> bool:
        return bool(self.lib.guard_key(self.handle, ctypes.c_char(digit.encode())))

    def look(self) -> bool:
        return bool(self.lib.fork_guard_look(self.handle))

    def leave(self) -> None:
        self.lib.fork_guard_leave(self.handle)

    def over(self, number: int) -> None:
        self.lib.fork_guard_over(self.handle, ctypes.c_uint64(number))

    @property
    def next_ms(self) -> int:
        return int(self.lib.fork_guard_next_ms(self.handle))

    def _lines(self, function: str) -> list[str]:
        room = ctypes.create_string_buffer(300)
        found: list[str] = []
        while True:
            getattr(self.lib, function)(self.handle, room, ctypes.c_size_t(300))
            if not room.value:
                return found
            found.append(room.value.decode())

    def wishes(self) -> list[str]:
        """All wishes, taken, without their numbers: "mode stopped kept until leave"."""
        lines = self._lines("guard_take")
        numbers = [int(line.split(" ")[0]) for line in lines]
        assert numbers == sorted(set(numbers))
        self.numbers = numbers
        return [line.split(" ", 1)[1] for line in lines]

    def told(self) -> list[str]:
        return self._lines("guard_told")

    def counts(self) -> list[int]:
        """Keys taken, keys lost, guards lost."""
        counts = (ctypes.c_uint * 3)()
        self.lib.guard_counts(self.handle, counts)
        return list(counts)


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("guard") / "guard.so"
    flags = ["-fPIC", "-shared"]
    built = ctypes.CDLL(
        str(native.build(target, "guard.c", ["fork_guard", "fork_keys"], [], flags))
    )
    built.guard_new.restype = ctypes.c_void_p
    built.guard_now.restype = ctypes.c_char_p
    built.fork_guard_look.restype = ctypes.c_bool
    built.fork_guard_next_ms.restype = ctypes.c_int64
    return built


@pytest.fixture
def guard(lib: ctypes.CDLL) -> Iterator[Guard]:
    one = Guard(lib)
    yield one
    lib.guard_free(one.handle)


def test_a_wish_is_there_at_once_and_is_told(guard: Guard) -> None:
    assert guard.wishes() == []
    assert guard.now("g", "block(0-9)", STAY, limit_ms=500) == ""
    assert guard.wishes() == ["block 3ff stay 1500 0"]
    assert guard.wishes() == []
    assert guard.told() == ["0 g block asked"]


def test_wishes_keep_their_order_and_so_do_keys_between_them(guard: Guard) -> None:
    guard.now("a", "block")
    guard.key("1")
    guard.lib.guard_cells(ctypes.c_ulonglong(7))
    guard.at("b", "pass", "p3", 4500)
    guard.key("2")
    guard.now("c", "buffer")
    assert [wish.split(" ")[0] for wish in guard.wishes()] == ["block", "pass", "buffer"]
    assert guard.told() == [
        "0 a block asked", "0 key 1", "7 b pass place p3 4500", "7 key 2", "7 c buffer asked",
    ]  # fmt: skip


def test_wishes_of_two_forks_are_numbered_together(lib: ctypes.CDLL, guard: Guard) -> None:
    other = Guard(lib)
    guard.now("a", "block")
    other.now("b", "pass")
    guard.now("c", "buffer")
    guard.wishes()
    other.wishes()
    first, third = guard.numbers
    assert first < other.numbers[0] < third
    lib.guard_free(other.handle)


# -- the limit


def test_the_limit_is_noted_once_when_it_is_over(guard: Guard) -> None:
    assert guard.next_ms == -1
    guard.now("g", "block", limit_ms=500)
    assert guard.next_ms == 500
    guard.clock(1499)
    assert (guard.look(), guard.next_ms) == (False, 1)
    guard.clock(1500)
    assert guard.next_ms == 0
    assert (guard.look(), guard.look(), guard.next_ms) == (True, False, -1)
    assert guard.told() == ["0 g block asked", "0 g pass limit"]


def test_a_key_after_the_limit_is_told_after_it(guard: Guard) -> None:
    guard.now("g", "block", limit_ms=500)
    guard.key("1")
    guard.clock(2000)
    guard.key("2")
    assert guard.told() == ["0 g block asked", "0 key 1", "0 g pass limit", "0 key 2"]


def test_so_is_the_next_guard(guard: Guard) -> None:
    guard.now("a", "block", limit_ms=500)
    guard.clock(2000)
    guard.at("b", "block", "p", 20, limit_ms=300)
    guard.clock(2300)
    guard.look()
    assert guard.told() == [
        "0 a block asked", "0 a pass limit", "0 b block place p 20", "0 b pass limit",
    ]  # fmt: skip


def test_a_later_guard_ends_the_limit_of_the_one_before(guard: Guard) -> None:
    guard.now("a", "block", limit_ms=500)
    guard.now("b", "pass")
    guard.clock(9000)
    assert not guard.look()
    assert guard.told() == ["0 a block asked", "0 b pass asked"]


def test_who_sets_the_mode_after_it_ends_its_limit_and_no_other(guard: Guard) -> None:
    guard.now("a", "block", limit_ms=500)
    guard.wishes()
    number = guard.numbers[0]
    guard.now("b", "block", limit_ms=500)
    guard.over(number)
    assert guard.next_ms == 500, "it was the former one that is over"
    guard.wishes()
    guard.over(guard.numbers[0])
    assert guard.next_ms == -1
    guard.clock(9000)
    assert not guard.look()


def test_a_limit_that_was_over_before_is_noted_still(guard: Guard) -> None:
    guard.now("a", "block", limit_ms=500)
    guard.wishes()
    guard.clock(1600)
    guard.over(guard.numbers[0])
    assert guard.told() == ["0 a block asked", "0 a pass limit"]


# -- the end


def test_the_end_opens_the_keys_and_is_the_last_word(guard: Guard) -> None:
    guard.now("a", "block", limit_ms=500)
    guard.leave()
    guard.leave()
    assert guard.now("b", "block") == "the fork is being stopped"
    guard.at("c", "block", "p", 20)
    assert guard.wishes() == ["block ffff take 1500 0", "pass 0 stay 0 1"]
    assert guard.next_ms == -1
    guard.clock(9000)
    guard.key("1")
    assert guard.told() == ["0 a block asked", "0 key 1"]


def test_who_never_wished_has_nothing_to_take_back(guard: Guard) -> None:
    guard.leave()
    assert guard.wishes() == []


# -- bounds


def test_what_finds_no_room_is_refused_or_counted(guard: Guard) -> None:
    for number in range(NOTES):
        assert guard.now(f"g{number}", "block") == ""
    assert guard.now("more", "pass") == "too many keys and guards are waiting to be told"
    guard.at("place", "pass", "p", 20)
    assert guard.counts() == [0, 0, 1]
    assert guard.wishes()[-1].startswith("pass"), "it is in force all the same"
    assert guard.told() == [f"0 g{number} block asked" for number in range(NOTES)]


def test_keys_that_nobody_reads_leave_no_room_either(guard: Guard) -> None:
    assert [guard.key("5") for _ in range(DIGITS + 2)] == [True] * DIGITS + [False] * 2
    assert guard.now("g", "block") != ""
    assert guard.wishes() == []
    assert guard.counts() == [DIGITS, 2, 0]
    assert guard.told() == ["0 key 5"] * DIGITS


@pytest.mark.parametrize(
    ("kept", "last", "folded"),
    [(TAKE, STAY, "take"), (TAKE, RELEASE, "take"), (RELEASE, STAY, "release"),
     (RELEASE, TAKE, "take"), (STAY, RELEASE, "release"), (STAY, STAY, "stay")],
)  # fmt: skip
def test_wishes_that_nobody_takes_become_one(
    guard: Guard, kept: int, last: int, folded: str
) -> None:
    """Mode and limit of the last; what one of them takes from the buffer is taken."""
    for number in range(WISHES - 1):
        guard.now(f"g{number}", "block", STAY)
    guard.now("eighth", "buffer", kept)
    guard.now("ninth", "pass", last)
    found = guard.wishes()
    assert len(found) == WISHES
    assert found[-1] == f"pass ffff {folded} 0 0"


def test_the_end_is_told_though_nobody_takes(guard: Guard) -> None:
    for number in range(NOTES):
        guard.now(f"g{number}", "block")
    guard.leave()
    found = guard.wishes()
    assert (len(found), found[-1]) == (WISHES, "pass 0 take 0 1")


# -- threads


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_server_player_and_caller_at_once(tmp_path: Path, sanitizer: str) -> None:
    flags = [f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    parts = ["fork_guard", "fork_keys"]
    hammer = native.build(tmp_path / "hammer", "guard_hammer.c", parts, [], flags)
    done = subprocess.run([hammer, "20000"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    seen = json.loads(done.stdout)
    assert seen["lies"] == 0
    missing = seen["guards_posted"] - seen["guards"]
    assert 0 <= missing <= seen["guards_lost"], "limits are among those that found no room"
    assert seen["keys"] + seen["keys_lost"] == seen["keys_pressed"] == 20_000
    assert seen["guards_posted"] >= 2000
    assert seen["guards"] > 0
    assert seen["wishes"] >= 200
