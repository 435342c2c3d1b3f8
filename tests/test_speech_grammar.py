"""Hints as grammars of their own; which decoders are kept."""

from __future__ import annotations

import pytest

from backend.speech.grammar import (
    GENERAL,
    GRAMMARS,
    MAX_HINTED,
    DecoderPool,
    grammars_with,
    hinted,
)
from backend.speech.text import HINTS_MODEL


def test_hints_are_added_as_the_dictionary_spells_them() -> None:
    grammar, unusable = hinted(
        GRAMMARS[GENERAL], f"{HINTS_MODEL}Uh-huh.|  balance,  please |yes|не знаю|;v1.0|"
    )
    assert grammar.phrases == (*GRAMMARS[GENERAL].phrases, "uh-huh", "balance please")
    assert grammar.other_weight == GRAMMARS[GENERAL].other_weight
    assert unusable == ("не знаю", "v1 0", "")


def test_nothing_of_a_hint_is_grammar() -> None:
    grammar, _ = hinted(GRAMMARS[GENERAL], f"{HINTS_MODEL}yes; public <x> = no|(okay)*")
    assert grammar.phrases[len(GRAMMARS[GENERAL].phrases) :] == ("yes public x no", "okay")


def test_decoders_of_the_last_hints_are_kept_and_no_others() -> None:
    pool = DecoderPool()
    first = f"{HINTS_MODEL}balance"
    decoder = pool.take(first)
    pool.give_back(first, decoder)
    assert pool.take(first) is decoder
    for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")[:MAX_HINTED]:
        model = f"{HINTS_MODEL}{word}"
        pool.give_back(model, pool.take(model))
    pool.give_back(first, decoder)  # forgotten by now: thrown away
    assert pool.take(first) is not decoder
    with pytest.raises(KeyError):
        pool.take("unknown")
    assert pool.unusable(first) == ()
    assert pool.unusable(GENERAL) == ()


def test_phrases_of_the_settings_are_in_the_general_grammar() -> None:
    grammars, unusable = grammars_with(["Of course!", "yes", "xyzzyq wands"])
    assert "of course" in grammars[GENERAL].phrases
    assert set(GRAMMARS[GENERAL].phrases) < set(grammars[GENERAL].phrases)
    assert grammars.keys() == GRAMMARS.keys()
    assert unusable == ("xyzzyq wands",)
    assert grammars_with([]) == (GRAMMARS, ())
