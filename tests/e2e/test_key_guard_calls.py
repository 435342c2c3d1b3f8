"""Keys during prompts on real calls: pressed at known times around a prompt's edges, proved by the
wire; what the subscriber pressed and what the steps say agree."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab_sound
import psycopg2
import pytest
from lab_config import set_key
from lab_script import LabStep, write_script
from stack import Stack

from tests.e2e.conftest import SHORT_TONE_MS, probing_stack
from tests.e2e.key_wire import KeyWire, Pressed
from tests.e2e.turn_calls import write_sounds

TRUNKS = {
    "RFC 4733": ("default", "press"),
    "SIP INFO": ("info", "press"),
    "in-band": ("inband", "tones"),
}
CHANNELS = ",".join(
    f"{name}=PJSIP/{{phone}}@{trunk}"
    for name, trunk in (
        ("default", "subscriber"),
        ("info", "subscriber-info"),
        ("inband", "subscriber-inband"),
    )
)
PROMPT_MS, OPEN_MS, CUT_MS = 3000, 2500, 5000
EDGES_MS = (-600, -500, -400, -100, 0, 20)  # from the prompt's end
NOTICED_MS = 50  # the subscriber knows that a prompt sounds
# Asterisk tells a tone in the voice some frames after it began; a busy machine's PBX is late.
GREY_MS = {"RFC 4733": (60, 60), "SIP INFO": (60, 60), "in-band": (140, 60)}
BLOCKED, TAKEN = {"drop": "blocked", "buffer": "buffered"}, "taken"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Step:
    """A step of the call's, as PostgreSQL has it."""

    kind: str
    state: str
    at_ms: int
    body: dict[str, Any]


class Calls:
    """Calls of a script each, all at once."""

    def __init__(self, stack: Stack, wire: KeyWire) -> None:
        self.stack = stack
        self.wire = wire
        self._calls: dict[str, tuple[str, str]] = {}

    def begin(self, name: str, scenario: str, way: str, *steps: LabStep, policy: str = "") -> None:
        number = f"150{next(_numbers)}"
        trunk, _ = TRUNKS[way]
        first = [LabStep("then", 0, "info")] if trunk == "info" else []
        write_script(self.stack.lab, number, [*first, *steps])
        task = self.stack.originate(number, scenario=scenario, channel=trunk, var_policy=policy)
        self._calls[name] = number, task["id"]

    def result(self, name: str) -> dict[str, Any]:
        task = self.stack.ended(self._calls[name][1], 90)
        assert task["state"] == "done", task
        found: dict[str, Any] = task["result"]
        return found

    def steps(self, name: str) -> list[Step]:
        """All, once the last has come to PostgreSQL."""
        return self.stack.wait_for("the call's steps", lambda: self._steps(name))

    def _steps(self, name: str) -> list[Step] | None:
        found = self._rows(
            "SELECT kind, state, at_ms, body FROM steps WHERE task_id = %s ORDER BY n", name
        )
        steps = [Step(*row) for row in found]
        return steps if steps and steps[-1].body.get("event") == "hangup" else None

    def _rows(self, query: str, name: str) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.stack.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(query, (self._calls[name][1],))
            return list(cursor.fetchall())

    def key_events(self, name: str) -> int:
        """What the log of Asterisk's events has of keys."""
        query = (
            "SELECT count(*) FROM events WHERE name LIKE 'DTMF%%' AND uniqueid IN"
            " (SELECT uniqueid FROM tasks WHERE id = %s)"
        )
        return int(self._rows(query, name)[0][0])

    def keys(self, name: str) -> list[Pressed]:
        return self.wire.keys(self._calls[name][0])

    def offsets_ms(self, name: str) -> list[float]:
        """When each key began, from the prompt's first sample on the wire."""
        begin, _ = self.wire.sounds(self._calls[name][0])[0]
        return [(key.at - begin) * 1000 for key in self.keys(name)]

    def over_for(self, name: str, seconds: float) -> bool:
        """So much time has passed since the last key began."""
        return time.time() - self.keys(name)[-1].at > seconds

    def prompt_ms(self, name: str) -> float:
        begin, end = self.wire.sounds(self._calls[name][0])[0]
        return (end - begin) * 1000


def press(way: str, when: str, after_s: float, key: str) -> LabStep:
    return LabStep(when, round(after_s, 3), TRUNKS[way][1], key)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[Calls]:
    """All of them at the same time."""
    folder = tmp_path_factory.mktemp("guard")
    settings = {"DIALOG_CHANNELS": CHANNELS, "DIALOG_VARIABLES": "policy", "DIALOG_WORKERS": "1"}
    with (
        probing_stack(folder, asterisk, **settings) as stack,
        KeyWire(stack.lab.ports) as wire,
    ):
        write_sounds(stack.lab.sounds)
        lab_sound.write(stack.lab.sounds / "tone-5s.wav", lab_sound.tone(CUT_MS))
        conf = stack.lab.pbx.home / "etc" / "audiofork.conf"
        conf.write_text(set_key(conf.read_text(), "reconnect", "yes"))
        stack.lab.pbx.cli("module reload app_audiofork.so")
        calls = Calls(stack, wire)
        for way, policy, edge_ms in itertools.product(TRUNKS, BLOCKED, EDGES_MS):
            first_s = (PROMPT_MS - 1500 - NOTICED_MS) / 1000
            between_s = (1500 + edge_ms) / 1000 - 0.15
            calls.begin(
                f"{way} {policy} {edge_ms}",
                "guard-digits",
                way,
                press(way, "over", first_s, "1"),
                press(way, "then", between_s, "2"),
                press(way, "then", 0.9, "3"),
                policy=policy,
            )
        three = [press("RFC 4733", "over", 0.2, "1"), press("RFC 4733", "then", 1.5, "2")]
        for scenario in ("guard-long", "guard-secret", "guard-limit", "guard-file"):
            last = press("RFC 4733", "then", 1.3, "3")
            calls.begin(scenario, scenario, "RFC 4733", *three, last)
        over, behind = press("RFC 4733", "over", 0.3, "1"), press("RFC 4733", "then", 2.4, "3")
        two = press("RFC 4733", "then", 2.0, "2")
        calls.begin("guard-cut", "guard-cut", "RFC 4733", over, two, behind)
        yield calls


def verdicts(steps: list[Step]) -> dict[str, list[str]]:
    """Of each key, in order."""
    found: dict[str, list[str]] = {}
    for step in steps:
        if step.kind == "key":
            found.setdefault(step.body["key"], []).append(step.body["verdict"])
    return found


@pytest.mark.parametrize("edge_ms", EDGES_MS)
@pytest.mark.parametrize("policy", BLOCKED)
@pytest.mark.parametrize("way", TRUNKS)
def test_a_key_at_the_edge_of_a_prompt(calls: Calls, way: str, policy: str, edge_ms: int) -> None:
    name = f"{way} {policy} {edge_ms}"
    result, steps = calls.result(name), calls.steps(name)
    at_ms = dict(zip("123", calls.offsets_ms(name), strict=True))
    found = verdicts(steps)
    early_ms, late_ms = GREY_MS[way]
    for key, began_ms in at_ms.items():
        first = found[key][0]
        assert first in (BLOCKED[policy], TAKEN)
        if began_ms < OPEN_MS - early_ms:
            assert first == BLOCKED[policy], f"{key} at {began_ms:.0f} ms"
        elif began_ms > OPEN_MS + late_ms:
            assert first == TAKEN, f"{key} at {began_ms:.0f} ms"
    got = "".join(key for key in "123" if found[key][-1] in ("taken", "released"))
    assert result["digits"] == got
    assert [found[key] for key in "123" if found[key][0] == "buffered"] == [
        ["buffered", "released"] for key in "123" if found[key][0] == "buffered"
    ], "whoever types ahead loses nothing"
    if policy == "buffer":
        assert got == "123"
    assert found["1"][0] == BLOCKED[policy], "in the midst of the prompt"
    assert found["3"] == [TAKEN], "when it is over"


@pytest.mark.parametrize("way", TRUNKS)
def test_a_blocked_key_stops_no_prompt_and_it_opens_at_its_place(calls: Calls, way: str) -> None:
    for policy in BLOCKED:
        name = f"{way} {policy} 20"
        steps = calls.steps(name)
        assert calls.prompt_ms(name) > OPEN_MS, "the first key was in its midst"
        (opened, _) = [step for step in steps if step.body.get("event") == "opened"]
        assert abs(opened.body["error_ms"]) <= 20
        assert opened.state == "waiting_input"
        assert not [step for step in steps if step.kind == "alarm"]


def test_the_early_opening_lets_a_key_end_the_prompt(calls: Calls) -> None:
    """Its block ends 2 s before the prompt does: the first key is blocked, the second one ends
    it."""
    result, steps = calls.result("guard-long"), calls.steps("guard-long")
    first_ms, second_ms, _ = (*calls.offsets_ms("guard-long"), 0)[:3]
    assert first_ms < 940
    assert (result["end"], result["by"], result["digits"]) == ("interrupted", "keys", "2"), result
    assert second_ms - 40 < calls.prompt_ms("guard-long") < second_ms + 500
    assert verdicts(steps) == {"1": ["blocked"], "2": ["taken"]}


def test_secret_keys_are_nowhere_but_with_the_scenario(calls: Calls) -> None:
    result, steps = calls.result("guard-secret"), calls.steps("guard-secret")
    pressed = [key.key for key in calls.keys("guard-secret")]
    assert pressed == ["1", "2", "3"]
    (told,) = verdicts(steps).values()
    assert set(verdicts(steps)) == {"•"}
    assert told in (["blocked", "taken", "taken"], ["blocked", "blocked", "taken"])
    assert result["digits"] == "123"[-told.count("taken") :]
    assert calls.key_events("guard-secret") == 0, "they never come into Asterisk"
    calls.steps("guard-file")
    assert calls.key_events("guard-file") > 0, "as others do"


def test_processing_opens_at_its_limit(calls: Calls) -> None:
    steps = calls.steps("guard-limit")
    alarms = [step.body["alarm"] for step in steps if step.kind == "alarm"]
    assert alarms[:1] == ["block_limit"]
    events = [step.body["event"] for step in steps if step.kind == "state"]
    assert events.index("limit") < events.index("input", events.index("limit"))


def test_a_file_of_asterisks_is_blocked_to_its_end(calls: Calls) -> None:
    result, steps = calls.result("guard-file"), calls.steps("guard-file")
    events = [step.body["event"] for step in steps if step.kind == "state"]
    assert events[:4] in (
        ["play", "in_force", "played", "input"],
        ["play", "in_force", "in_force", "played"],
    )
    assert verdicts(steps)["1"] == ["blocked"]
    assert result["digits"] in ("2", "3")


def test_a_connection_that_breaks_lets_no_key_through(calls: Calls) -> None:
    """The fork comes back, is told anew, and what is left of the prompt opens at its end."""
    result, steps = calls.result("guard-cut"), calls.steps("guard-cut")
    assert "the fork was lost" in calls.stack.log_path.read_text()
    assert verdicts(steps) == {"1": ["blocked"], "2": ["blocked"], "3": ["taken"]}
    assert result["digits"] == "3"
    assert result["ms"] > CUT_MS - 600
    assert [step.state for step in steps if step.body.get("event") == "opened"] == ["waiting_input"]


def test_a_frozen_backend_blocks_no_longer_than_it_may(calls: Calls) -> None:
    """The worker stands still in the midst of a prompt: the module opens by itself. Awake again, it
    says so, and takes the key that was open."""
    stack = calls.stack
    worker = stack.info["pids"]["voice-0"]
    for name in [*calls._calls]:
        calls.result(name)
    calls.begin(
        "frozen",
        "guard-frozen",
        "RFC 4733",
        press("RFC 4733", "over", 1.5, "1"),
        press("RFC 4733", "then", 5.6, "2"),
    )
    stat = Path(f"/proc/{worker}/stat")
    stack.wait_for("a frozen worker", lambda: ") T " in stat.read_text() or None)
    try:
        stack.wait_for("both keys", lambda: len(calls.keys("frozen")) > 1 or None)
        stack.wait_for("the second one's end", lambda: calls.over_for("frozen", 0.5) or None)
    finally:
        os.kill(worker, signal.SIGCONT)
    result, steps = calls.result("frozen"), calls.steps("frozen")
    told = "\n".join(map(str, steps))
    alarms = [step.body["alarm"] for step in steps if step.kind == "alarm"]
    assert alarms.count("block_limit") == 1, told
    assert verdicts(steps) == {"1": ["blocked"], "2": ["taken"]}, told
    assert result["digits"] == "2"


def test_a_prompts_order_wins_over_a_key_of_the_same_moment(calls: Calls) -> None:
    """Asterisk let the first key through: the block had been ordered, and was not in force."""
    for name in [*calls._calls]:
        calls.result(name)
    calls.begin(
        "conflict",
        "guard-conflict",
        "RFC 4733",
        press("RFC 4733", "over", SHORT_TONE_MS / 1000 + 0.4, "1"),
        press("RFC 4733", "then", 1.8, "2"),
        press("RFC 4733", "then", 2.6, "3"),
    )
    result, steps = calls.result("conflict"), calls.steps("conflict")
    told = "\n".join(map(str, steps))
    assert verdicts(steps) == {"1": ["conflict"], "2": ["blocked"], "3": ["taken"]}, told
    (conflict,) = [step.body for step in steps if step.kind == "conflict"]
    assert (conflict["key"], conflict["order"]) == ("1", "play"), told
    assert 0 <= conflict["after_ms"] < 1000, told
    assert (result["digits"], result["ms"]) == ("3", PROMPT_MS)
