"""Splitting texts, finals in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.ports import Hypothesis, RecognitionEvent, UtteranceEnded
from backend.speech.refine import FinalsInOrder
from backend.speech.text import split_text


def test_sentences_then_clauses_then_words() -> None:
    assert split_text("One two. Three four! Five?", 13) == ["One two.", "Three four!", "Five?"]
    assert split_text("One. Two. Three.", 10) == ["One. Two.", "Three."]
    assert split_text("Well, if you say so, then yes.", 16) == [
        "Well,",
        "if you say so,",
        "then yes.",
    ]
    assert split_text("one two three", 8) == ["one two", "three"]
    assert split_text("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert split_text(" \n ", 10) == []


@given(st.text(alphabet="ab .,!?\n", max_size=300), st.integers(1, 60))
def test_nothing_is_lost(text: str, limit: int) -> None:
    pieces = split_text(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def heard(text: str) -> Hypothesis:
    return Hypothesis(text, True, 0, 100)


def test_finals_wait_for_their_normalised_text() -> None:
    finals = FinalsInOrder(wait=True)
    assert finals.final(0, heard("twenty one")) == []
    assert finals.final(1, heard("rubles")) == []
    assert finals.ended(UtteranceEnded(100)) == []
    assert finals.refined(1, heard("₽")) == []
    expected: list[RecognitionEvent] = [heard("21"), heard("₽"), UtteranceEnded(100)]
    assert finals.refined(0, heard("21")) == expected
    assert finals.refined(0, heard("21")) == []
    assert finals.release() == []


def test_what_never_comes_is_not_waited_for_at_the_end() -> None:
    finals = FinalsInOrder(wait=True)
    finals.final(0, heard("a"))
    finals.ended(UtteranceEnded(1))
    assert finals.release() == [heard("a"), UtteranceEnded(1)]


def test_without_normalisation_nothing_waits() -> None:
    finals = FinalsInOrder(wait=False)
    assert finals.final(0, None) == []
    assert finals.final(0, heard("a")) == [heard("a")]
    assert finals.refined(0, heard("A")) == []
    assert finals.ended(UtteranceEnded(1)) == [UtteranceEnded(1)]
