"""asterisk/fork_keys.c: what happens to each key, by the mode at its beginning."""

from __future__ import annotations

import ctypes
import random
from collections import deque
from collections.abc import Iterator

import pytest

from tests import native

ROOM = 64
TAKE, RELEASE, STAY = range(3)
RELEASED_MAX_MS = 1000


class Keys:
    """The C machine. An answer is (whether the reader sees it, the key that is over)."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        lib.keys_new.restype = ctypes.c_void_p
        self.lib = lib
        self.handle = ctypes.c_void_p(lib.keys_new())
        self.now = 0

    def close(self) -> None:
        self.lib.keys_free(self.handle)

    def set(self, mode: str) -> None:
        assert self.lib.keys_set(self.handle, mode.encode()) == 0, mode

    def obey(self, mode: str, kept: int = TAKE, until: int = 0) -> None:
        """A server's order."""
        self.lib.keys_obey(self.handle, mode.encode(), kept, ctypes.c_ulonglong(until))

    def leave(self) -> None:
        self.lib.keys_leave(self.handle)

    def look(self) -> None:
        self.lib.keys_look(self.handle, ctypes.c_ulonglong(self.now))

    def _text(self, function: str, *args: object) -> str:
        room = ctypes.create_string_buffer(512)
        getattr(self.lib, function)(self.handle, *args, room, ctypes.c_size_t(512))
        return room.value.decode()

    def _answer(self, text: str) -> tuple[bool, str]:
        seen, _, ended = text.partition(" ")
        return seen == "pass", ended

    def begin(self, digit: str) -> tuple[bool, str]:
        now = ctypes.c_ulonglong(self.now)
        return self._answer(self._text("keys_begin", ctypes.c_char(digit.encode()), now))

    def end(self, digit: str, length_ms: int = 0, begun: bool = False) -> tuple[bool, str]:
        now = ctypes.c_ulonglong(self.now)
        key = ctypes.c_char(digit.encode())
        return self._answer(self._text("keys_end", key, length_ms, now, int(begun)))

    def press(self, digits: str, length_ms: int = 100) -> list[bool]:
        """Whether each was seen; beginning and end must agree."""
        seen = []
        for digit in digits:
            begun, _ = self.begin(digit)
            self.now += length_ms
            ended, over = self.end(digit)
            assert begun == ended, digit
            assert over.startswith(f"{digit} {length_ms} "), over
            seen.append(begun)
        return seen

    def next(self) -> str:
        return self._text("keys_next")

    def all_due(self) -> str:
        """The digits that may go now."""
        return "".join(key[0] for key in iter(self.next, ""))

    def release(self, count: int) -> None:
        self.lib.keys_release(self.handle, count)

    def clear(self) -> int:
        return int(self.lib.keys_clear(self.handle))

    def take(self) -> str:
        room = ctypes.create_string_buffer(ROOM + 1)
        self.lib.keys_take(self.handle, room)
        return room.value.decode()

    @property
    def status(self) -> dict[str, str]:
        room = ctypes.create_string_buffer(512)
        self.lib.keys_status(self.handle, room)
        return dict(field.split("=", 1) for field in room.value.decode().split(","))

    def count(self, name: str) -> int:
        return int(self.status[name])

    @property
    def idle(self) -> bool:
        return bool(self.lib.keys_idle(self.handle))


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    target = tmp_path_factory.mktemp("keys") / "keys.so"
    return ctypes.CDLL(str(native.build(target, "keys.c", ["fork_keys"], [], ["-fPIC", "-shared"])))


@pytest.fixture
def keys(lib: ctypes.CDLL) -> Iterator[Keys]:
    one = Keys(lib)
    yield one
    one.close()


# -- modes


@pytest.mark.parametrize(
    ("mode", "digits"),
    [("off", ""), ("pass", ""), ("block", "0123456789*#ABCD"), ("BUFFER", "0123456789*#ABCD"),
     ("block(0-9)", "0123456789"), ("buffer(1-3*a)", "123*A"), ("block(#)", "#")],
)  # fmt: skip
def test_modes(keys: Keys, mode: str, digits: str) -> None:
    keys.set(mode)
    assert (keys.status["mode"], keys.status["digits"]) == (mode.split("(")[0].lower(), digits)


@pytest.mark.parametrize(
    "mode",
    ["", "blocked", "bloc", "block(", "block()", "block(x)", "block(9-0)", "block(*-#)",
     "block(1-)", "block(1)2", "pass(1)", "off(1)", " block", "block "],
)  # fmt: skip
def test_modes_that_make_no_sense_change_nothing(lib: ctypes.CDLL, keys: Keys, mode: str) -> None:
    keys.set("buffer(5)")
    assert lib.keys_set(keys.handle, mode.encode()) == -1
    assert (keys.status["mode"], keys.status["digits"]) == ("buffer", "5")


def test_what_is_a_key(lib: ctypes.CDLL) -> None:
    known = {chr(code) for code in range(128) if lib.key_known(code)}
    assert known == set("0123456789*#ABCDabcd")
    assert not lib.key_known(-1)
    assert not lib.key_known(ord("1") + 256)


# -- fates


@pytest.mark.parametrize(
    ("mode", "seen", "counter"),
    [("off", True, "passed"), ("pass", True, "passed"), ("block", False, "blocked"),
     ("buffer", False, "buffered")],
)  # fmt: skip
def test_each_mode(keys: Keys, mode: str, seen: bool, counter: str) -> None:
    keys.set(mode)
    assert keys.press("1234567890*#ABCD") == [seen] * 16
    assert keys.count(counter) == 16
    assert keys.end("7", 140) == (seen, f"7 140 {counter}"), "an end without a beginning"
    assert keys.count(counter) == 17


@pytest.mark.parametrize("before", ["pass", "block", "buffer", "off"])
@pytest.mark.parametrize("after", ["pass", "block", "buffer", "off"])
def test_a_key_is_judged_at_its_beginning(keys: Keys, before: str, after: str) -> None:
    fate = {"off": "passed", "pass": "passed", "block": "blocked", "buffer": "buffered"}[before]
    keys.set(before)
    begun, _ = keys.begin("5")
    keys.now = 250
    keys.set(after)
    assert keys.end("5") == (begun, f"5 250 {fate}")
    assert begun is (fate == "passed")
    assert keys.count(fate) == 1


def test_a_key_that_began_before_the_guard_came_is_seen_to_end(keys: Keys) -> None:
    keys.set("block")
    assert keys.end("5", 300, begun=True) == (True, "5 300 passed")
    assert keys.end("5", 300) == (False, "5 300 blocked")


def test_only_the_keys_named_are_stopped(keys: Keys) -> None:
    keys.set("block(0-9)")
    assert keys.press("1*9#0A") == [False, True, False, True, False, True]
    assert (keys.count("passed"), keys.count("blocked")) == (3, 3)


def test_a_key_whose_end_was_lost_is_counted_when_the_next_begins(keys: Keys) -> None:
    keys.set("block")
    assert keys.begin("1") == (False, "")
    keys.now = 700
    assert keys.begin("2") == (False, "1 700 blocked")
    keys.set("pass")
    assert keys.end("2", 90) == (False, "2 90 blocked")
    assert keys.begin("3") == (True, "")
    keys.set("block")
    keys.now = 1000
    assert keys.begin("4") == (False, "3 300 passed")


def test_the_end_of_another_key_stands_for_itself(keys: Keys) -> None:
    keys.set("pass")
    keys.begin("1")
    keys.set("block")
    assert keys.end("2", 100, begun=True) == (False, "2 100 blocked")
    assert keys.end("1", 400) == (True, "1 400 passed")


# -- the buffer


def test_kept_keys_go_in_order_with_their_lengths(keys: Keys) -> None:
    keys.set("buffer")
    for digit, length_ms in (("4", 80), ("2", 340), ("#", RELEASED_MAX_MS + 1)):
        keys.press(digit, length_ms)
    assert keys.next() == "", "none is due yet"
    assert keys.status["keys"] == "42#"
    keys.set("pass")
    assert [keys.next() for _ in range(4)] == ["4 80", "2 340", f"# {RELEASED_MAX_MS}", ""]
    assert (keys.count("released"), keys.count("waiting")) == (3, 0)


def test_later_keys_go_behind_those_still_kept(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("12")
    keys.set("pass")
    assert keys.next() == "1 100"
    assert keys.press("3") == [False], "2 has not gone yet"
    assert keys.all_due() == "23"
    assert keys.press("4") == [True]


def test_a_key_that_is_held_over_the_switch_goes_behind_too(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("1")
    keys.begin("2")
    keys.set("pass")
    assert keys.next() == "1 100"
    keys.now += 200
    assert keys.end("2") == (False, "2 200 buffered")
    assert keys.all_due() == "2"


def test_the_newest_is_refused_when_the_buffer_is_full(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("1234567890" * 7)
    assert [keys.count(name) for name in ("buffered", "overflow", "waiting")] == [ROOM, 6, ROOM]
    assert keys.end("5", 100) == (False, "5 100 blocked")
    keys.set("pass")
    assert keys.all_due() == ("1234567890" * 7)[:ROOM]


def test_a_change_to_block_keeps_what_is_kept(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("12")
    keys.set("block")
    keys.press("3")
    assert (keys.next(), keys.status["keys"]) == ("", "12")
    keys.set("pass")
    assert keys.all_due() == "12"


def test_some_may_go_while_the_mode_holds(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("12345")
    keys.release(2)
    assert keys.all_due() == "12"
    keys.release(1)
    keys.press("6")
    assert keys.all_due() == "3"
    keys.release(2**32 - 1)
    assert keys.all_due() == "456"
    keys.press("7")
    assert keys.all_due() == ""
    keys.release(5)
    keys.press("8")
    assert keys.all_due() == "7", "what comes after the order is not meant"


def test_thrown_away_or_taken(keys: Keys) -> None:
    keys.set("buffer")
    keys.press("123")
    assert keys.clear() == 3
    assert keys.clear() == 0
    keys.press("45")
    keys.release(1)
    assert keys.take() == "45"
    assert keys.take() == ""
    keys.press("6")
    assert keys.all_due() == "", "the order to release went with the keys it was for"
    keys.set("pass")
    assert keys.all_due() == "6"
    counted = {name: keys.count(name) for name in ("buffered", "cleared", "taken", "released")}
    assert counted == {"buffered": 6, "cleared": 3, "taken": 2, "released": 1}


def test_off_has_work_until_all_is_let_out(keys: Keys) -> None:
    assert keys.idle
    keys.set("buffer")
    keys.press("1")
    keys.begin("2")
    assert not keys.idle
    keys.set("off")
    assert keys.all_due() == "1"
    assert not keys.idle, "2 must not be seen to end"
    assert keys.end("2", 100) == (False, "2 100 buffered")
    assert not keys.idle
    assert keys.all_due() == "2"
    assert keys.idle


# -- a server's orders


def test_what_the_server_was_told_of_is_never_released(keys: Keys) -> None:
    """Nor is the key that was down when the order came, and was judged by the mode before."""
    keys.obey("buffer")
    keys.press("12")
    keys.begin("3")
    keys.obey("pass", TAKE)
    assert keys.end("3", 90) == (False, "3 90 buffered")
    assert keys.next() == ""
    assert keys.press("4") == [True]
    assert [keys.count(name) for name in ("buffered", "taken", "waiting")] == [3, 3, 0]


def test_a_key_that_is_held_is_taken_once(keys: Keys) -> None:
    keys.obey("buffer")
    keys.begin("1")
    keys.obey("block", TAKE)
    keys.obey("buffer", STAY)
    keys.end("1", 100)
    keys.press("2")
    assert (keys.status["keys"], keys.count("taken")) == ("2", 1)
    keys.begin("3")
    keys.obey("pass", TAKE)
    assert keys.begin("4") == (True, f"3 {keys.now - 200 + 100} buffered"), "its end was lost"
    assert keys.count("taken") == 3


def test_the_server_may_have_them_released(keys: Keys) -> None:
    keys.obey("buffer")
    keys.press("12")
    keys.obey("block", RELEASE)
    assert keys.press("3") == [False]
    assert keys.all_due() == "12"
    keys.obey("buffer", RELEASE)
    keys.press("4")
    keys.obey("pass", RELEASE)
    assert keys.press("5") == [False], "4 has not gone yet"
    assert keys.all_due() == "45"


def test_what_stays_stays_though_the_mode_is_open(keys: Keys) -> None:
    keys.obey("buffer")
    keys.press("12")
    keys.obey("pass", STAY)
    assert keys.next() == ""
    assert keys.press("3") == [True], "nothing goes before it"
    assert keys.status["keys"] == "12"
    keys.release(1)
    assert keys.all_due() == "1"
    keys.obey("off", STAY)
    assert not keys.idle
    keys.set("pass")
    assert keys.all_due() == "2", "the dialplan's pass lets them go"


@pytest.mark.parametrize("mode", ["block", "buffer(0-9)"])
def test_the_limit_is_exact_for_keys(keys: Keys, mode: str) -> None:
    keys.obey("buffer")
    keys.press("7")
    keys.obey(mode, STAY, until=2000)
    keys.now = 1999
    assert keys.begin("1") == (False, "")
    keys.now = 2000
    assert keys.end("1")[0] is False, "it went down before"
    assert keys.press("2") == [True]
    assert keys.status["mode"] == "pass"
    assert keys.next() == "", "what was kept is the server's, or the dialplan's, who asks for it"


def test_the_limit_holds_for_a_key_of_one_piece_and_for_a_look(keys: Keys) -> None:
    keys.obey("block", until=500)
    keys.now = 499
    keys.look()
    assert keys.end("1", 100) == (False, "1 100 blocked")
    assert keys.status["mode"] == "block"
    keys.now = 500
    assert keys.end("2", 100) == (True, "2 100 passed")
    keys.obey("block", until=600)
    keys.now = 700
    keys.look()
    assert keys.status["mode"] == "pass"


def test_a_later_mode_has_no_limit(keys: Keys) -> None:
    for by_server in (False, True):
        keys.obey("block", until=keys.now + 500)
        keys.obey("block") if by_server else keys.set("block")
        keys.now += 5000
        assert keys.press("1") == [False]


def test_when_the_server_is_gone_keys_are_open(keys: Keys) -> None:
    keys.obey("buffer")
    keys.press("1")
    keys.leave()
    assert keys.press("2") == [True]
    assert (keys.status["mode"], keys.status["keys"], keys.next()) == ("pass", "1", "")


# -- any order of events


class Model:
    """The same in words: a key's fate is fixed when it begins; the kept ones are a queue."""

    def __init__(self) -> None:
        self.mode = "off"
        self.stopped = ""
        self.stay = False
        self.until = 0
        self.kept: deque[tuple[str, int]] = deque()
        self.held: tuple[str, int, str] | None = None
        self.seen: list[tuple[str, str]] = []
        self.ends = 0

    def look(self, now: int) -> None:
        if self.until and now >= self.until:
            self.mode, self.stay, self.until = "pass", True, 0

    def fate(self, digit: str, now: int) -> str:
        self.look(now)
        if self.mode in ("off", "pass"):
            return "buffered" if self.kept and not self.stay else "passed"
        if digit not in self.stopped:
            return "passed"
        return {"block": "blocked", "buffer": "buffered"}[self.mode]

    def over(self, digit: str, length_ms: int, fate: str) -> str:
        self.ends += 1
        if fate == "taken":
            fate = "buffered"
        elif fate == "buffered":
            if len(self.kept) == ROOM:
                return f"{digit} {length_ms} blocked"
            self.kept.append((digit, length_ms))
        return f"{digit} {length_ms} {fate}"


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_events(keys: Keys, seed: int) -> None:
    """400 random steps; what the reader sees are whole keys, and all are accounted for."""
    luck = random.Random(seed)
    model = Model()
    gone: list[str] = []
    for _ in range(400):
        keys.now += luck.choice([0, 20, 100, 5000])
        luck.choices([step_mode, step_order, step_begin, step_end, step_bare_end, step_release,
                      step_rest], [4, 4, 20, 20, 10, 6, 1])[0](luck, keys, model, gone)  # fmt: skip
        check_accounts(keys, model)
    if model.held:
        step_end(luck, keys, model, gone)
    seen = "".join(("(" if what == "begin" else ")") + digit for what, digit in model.seen)
    for digit in "159#":
        seen = seen.replace(f"({digit}){digit}", "")
    assert seen == "", "a key began and did not end, or the other way round"


def step_mode(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    keys.set(any_mode(luck, model))


def any_mode(luck: random.Random, model: Model) -> str:
    model.mode = luck.choice(["off", "pass", "block", "buffer"])
    model.stay, model.until = False, 0
    part = luck.choice(["", "(1-5)", "(#)"]) if model.mode in ("block", "buffer") else ""
    model.stopped = {"": "159#", "(1-5)": "15", "(#)": "#"}[part]
    return model.mode + part


def step_order(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    """A server's: what is to be released goes at once."""
    mode, kept = any_mode(luck, model), luck.choice([TAKE, RELEASE, STAY])
    model.stay = kept == STAY
    model.until = luck.choice([0, keys.now + 100]) if model.mode in ("block", "buffer") else 0
    keys.obey(mode, kept, model.until)
    if kept == RELEASE:
        gone += keys.all_due()
    if kept != STAY:
        model.kept.clear()
    if kept == TAKE and model.held and model.held[2] == "buffered":
        model.held = (*model.held[:2], "taken")


def step_begin(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    """A key goes down, if none is held (that a passed one loses its end is tested above)."""
    if model.held:
        return
    digit = luck.choice("159#")
    fate = model.fate(digit, keys.now)
    assert keys.begin(digit) == (fate == "passed", "")
    model.held = (digit, keys.now, fate)
    if fate == "passed":
        model.seen.append(("begin", digit))


def step_end(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    if not model.held:
        return
    digit, since, fate = model.held
    model.held = None
    told = luck.choice([0, 120])
    over = model.over(digit, told or keys.now - since, fate)
    assert keys.end(digit, told) == (fate == "passed", over)
    if fate == "passed":
        model.seen.append(("end", digit))


def step_bare_end(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    """SIP INFO: a key of one piece."""
    digit = luck.choice("159#")
    if model.held and model.held[0] == digit:
        return
    fate = model.fate(digit, keys.now)
    assert keys.end(digit, 160) == (fate == "passed", model.over(digit, 160, fate))


def step_release(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    """What is due goes, oldest first."""
    keys.look()
    model.look(keys.now)
    if model.mode in ("off", "pass") and not model.stay:
        count = luck.randrange(4)
    else:
        assert keys.next() == ""
        count = luck.randrange(3)
        keys.release(count)
    for _ in range(count):
        due = keys.next()
        if not model.kept:
            assert due == ""
            continue
        digit, length_ms = model.kept.popleft()
        assert due == f"{digit} {min(length_ms, RELEASED_MAX_MS)}"
        gone.append(digit)


def step_rest(luck: random.Random, keys: Keys, model: Model, gone: list[str]) -> None:
    kept = "".join(digit for digit, _ in model.kept)
    if luck.random() < 0.5:
        assert keys.take() == kept
    else:
        assert keys.clear() == len(kept)
    model.kept.clear()


def check_accounts(keys: Keys, model: Model) -> None:
    status = keys.status
    number = {name: int(status[name]) for name in
              ("passed", "blocked", "buffered", "overflow", "released", "taken", "cleared",
               "waiting")}  # fmt: skip
    fates = ("passed", "blocked", "buffered", "overflow")
    assert sum(number[name] for name in fates) == model.ends
    left = number["released"] + number["taken"] + number["cleared"] + number["waiting"]
    assert number["buffered"] == left
    assert status["keys"] == "".join(digit for digit, _ in model.kept)
    assert number["waiting"] == len(model.kept) <= ROOM
