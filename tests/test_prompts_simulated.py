"""No key breaks a guarded prompt and none is lost, whatever the moment: hundreds of simulated
prompts, keys at random times and where it hurts. Ten thousand, and a long hunt: tests/soak."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.keying import machine
from backend.keying.rules import KeyGuard
from backend.storage.figures import figures_of
from tests.prompt_talks import EDGES_MS, Account, Planned, Round, SimulatedTalk, simulate


def prove(account: Account) -> None:
    """Raises AssertionError with the keys that are not as they should be."""
    assert account.problems == [], account.story()
    assert account.whole == account.prompts
    figures = {name: value for (_, _, name), value in figures_of(account.steps).items()}
    assert figures["prompts_blocked"] == account.prompts
    assert account.broken == 0, "play_block_success_rate is 100 %"
    assert figures.get("keys_lost", 0) == figures.get("keys_lost_blocked", 0) == 0
    ends = ("taken", "released", "blocked", "conflict", "discarded")
    assert sum(figures.get(f"keys_{end}", 0) for end in ends) == account.pressed


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hundreds_of_prompts(seed: int) -> None:
    account = simulate(200, seed)
    prove(account)
    assert account.pressed > account.prompts
    assert account.doubtful < account.pressed / 4, account.story()
    assert account.zones["blocked", "blocked"] > account.pressed / 10
    assert account.zones["open", "taken"] > account.pressed / 10


_presses = st.builds(
    Planned,
    st.sampled_from(["order", "place", "end", "input_over", "next"]),
    st.sampled_from(EDGES_MS) | st.integers(-700, 2000),
    st.integers(20, 700),
    st.sampled_from(["rfc4733", "info"]),
    st.booleans(),
)
_rules = st.builds(
    KeyGuard,
    st.sampled_from(["drop", "buffer"]),
    st.sampled_from([0, 0.05, 0.5, 10]),
    st.just(5.0),
    st.booleans(),
)
_rounds = st.builds(
    Round,
    _rules,
    st.sampled_from([20, 300, 1600]),
    st.lists(_presses, max_size=6).map(tuple),
    known_ms=st.sampled_from([0, 1, 250, 5000]),
    told=st.sampled_from(["at once", "at once", "late", "never"]),
    asks=st.booleans(),
    digits=st.integers(1, 5),
    first_ms=st.sampled_from([1, 300, 1500]),
    between_ms=st.sampled_from([50, 800]),
    think_ms=st.sampled_from([0, 1, 30, 700]),
)


TALKS = st.lists(_rounds, min_size=1, max_size=4)
SEEDS = st.integers(0, 2**32 - 1)


def prove_talk(rounds: list[Round], seed: int) -> None:
    account = SimulatedTalk(rounds, seed).run()
    if account.pressed == 0:
        assert account.problems == []
        return
    prove(account)


@settings(max_examples=150, deadline=None)
@given(TALKS, SEEDS)
def test_whatever_a_caller_does(rounds: list[Round], seed: int) -> None:
    prove_talk(rounds, seed)


def test_the_proof_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gate that lets all keys in."""
    monkeypatch.setattr(machine, "judge", lambda state, key: "take")
    account = simulate(50, 1)
    assert account.problems != []
    assert account.broken > 0 or account.zones["blocked", "taken"] > 0
