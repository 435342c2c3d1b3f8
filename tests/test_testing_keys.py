"""FakeCall and keys during prompts: simulated presses are blocked, kept, taken as real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend import Call, DigitsStatus, Hangup, KeyGuard
from backend.cli import main
from backend.testing import FakeCall, hangup, press, say, silence

PROMPT = "A prompt of some length, so that it lasts."  # 2.52 s
BUFFER = KeyGuard("buffer")


def verdicts(call: FakeCall) -> list[tuple[str, str]]:
    return [(s.body["key"], s.body["verdict"]) for s in call.steps if s.kind == "key"]


def events(call: FakeCall) -> list[str]:
    return [s.body["event"] for s in call.steps if s.kind == "state"]


def code(call: Call, rules: KeyGuard | None) -> str:
    call.answer()
    call.guard_keys(rules)
    return call.read_digits(2, prompt=PROMPT, timeout_s=3).digits


def test_a_blocked_key_is_as_if_not_pressed() -> None:
    call = FakeCall(press("9", over_prompt=True, after_s=0.5), press("12"))
    assert code(call, KeyGuard()) == "12"
    assert verdicts(call) == [("9", "blocked"), ("1", "taken"), ("2", "taken")]
    assert [str(line) for line in call.talk] == [
        f"robot says: {PROMPT}",
        "caller presses: 9 (blocked: 9)",
        "caller presses: 12",
    ]


def test_without_a_guard_it_stops_the_prompt() -> None:
    call = FakeCall(press("9", over_prompt=True, after_s=0.5), press("1"))
    assert code(call, None) == "91"
    assert call.steps == []


def test_typed_ahead_keys_are_delivered_when_the_prompt_is_over() -> None:
    call = FakeCall(press("12", over_prompt=True, after_s=0.5))
    assert code(call, BUFFER) == "12"
    assert [verdict for _, verdict in verdicts(call)] == ["buffered"] * 2 + ["released"] * 2
    assert "stopped" not in events(call)


@pytest.mark.parametrize(
    ("open_before_s", "after_s", "got"),
    [(0.5, 1.9, "2"), (0.5, 2.1, "12"), (0, 2.45, "2"), (2, 0.4, "2"), (2, 0.6, "12")],
)
def test_the_edge(open_before_s: float, after_s: float, got: str) -> None:
    """Two keys, 0.2 s apart, from so long after the prompt's beginning."""
    call = FakeCall(press("12", over_prompt=True, after_s=after_s), silence())
    assert code(call, KeyGuard(open_before_end_s=open_before_s)) == got


def test_a_prompt_that_stands_still_opens_as_much_later() -> None:
    """Voice pauses it: the opening is at a place in it, at no time."""
    call = FakeCall(say("okay", over_prompt=True, after_s=0.5), press("1", then=True, after_s=0.9))
    call.answer()
    call.guard_keys()
    call.hear(PROMPT, barge_in="words", timeout_s=1)
    (opened,) = [s for s in call.steps if s.body.get("event") == "opened"]
    assert opened.at_ms > 2020 + 500
    assert opened.body["error_ms"] == 0


def test_processing_blocks_and_has_an_end() -> None:
    call = FakeCall(press("1"), press("2", then=True, after_s=1.0), silence(), press("3"))
    call.answer()
    call.guard_keys(KeyGuard(max_block_s=2))
    assert call.read_digits(1).digits == "1"
    call.wait(4)
    assert call.read_digits(1, timeout_s=1).status is DigitsStatus.TIMEOUT
    assert verdicts(call) == [("1", "taken"), ("2", "blocked")]
    assert [s.body["alarm"] for s in call.steps if s.kind == "alarm"] == ["block_limit"]


def test_a_hangup_ends_all() -> None:
    call = FakeCall(press("12", over_prompt=True, after_s=0.5), hangup(over_prompt=True, after_s=1))
    with pytest.raises(Hangup):
        code(call, BUFFER)
    assert events(call)[-1] == "hangup"
    assert [verdict for _, verdict in verdicts(call)][2:] == ["discarded"] * 2


def test_secret_keys() -> None:
    call = FakeCall(press("12"))
    assert code(call, KeyGuard(secret=True)) == "12"
    assert {key for key, _ in verdicts(call)} == {"•"}


def test_steps_are_numbered_and_of_this_call() -> None:
    call = FakeCall(press("12"))
    code(call, KeyGuard())
    assert [step.n for step in call.steps] == list(range(len(call.steps)))
    assert {step.call_id for step in call.steps} == {call.id}
    assert all(a.at_ms <= b.at_ms for a, b in zip(call.steps, call.steps[1:], strict=False))


def test_try_tells_of_alarms_and_of_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slow.py"
    file.write_text(
        "from backend import scenario\n\n\n"
        "@scenario('slow')\n"
        "def slow(call):\n"
        "    call.answer()\n"
        "    call.guard_keys()\n"
        "    call.read_digits(1)\n"
        "    call.wait(9)\n"
    )
    assert main(["try", str(file), "--press", "1"]) == 0
    assert "alarm    block_limit at " in capsys.readouterr().out
    assert main(["try", str(file), "--press", "1", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    (key,) = [step for step in steps if step["kind"] == "key"]
    assert (key["state"], key["body"]["verdict"]) == ("waiting_input", "taken")
