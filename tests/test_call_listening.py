"""Listening beside everything else, and the thread of a call's callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from backend.call import callbacks as callbacks_module
from backend.call import listening as module
from backend.call.callbacks import Callbacks
from backend.call.listening import Listening, Result
from backend.errors import Hangup, RecognitionUnavailable
from backend.model import Utterance, Word
from backend.ports import Hypothesis


class Rig:
    """A listening, fed by hand."""

    def __init__(self, **options: object) -> None:
        self.callbacks = Callbacks("callbacks-test")
        self.stopped: list[Listening] = []
        self.hung_up = False
        arguments = {"partials": True, "on_result": None, "on_final": None, **options}
        self.listening = Listening(
            self.callbacks,
            self.poll,
            self.stopped.append,
            **arguments,  # type: ignore[arg-type]
        )

    def poll(self) -> None:
        if self.hung_up:
            raise Hangup("the other side hung up")

    def seems(self, text: str) -> None:
        self.listening.on_words(Hypothesis(text, False, 0, 100))

    def says(self, text: str) -> None:
        words = (Word(text, 0, 400),)
        self.listening.on_utterance(Utterance("caller", text, 0, 400, 0.9, "en-US", words))


def test_results_in_order_with_all_that_is_known() -> None:
    rig = Rig()
    rig.seems("y")
    rig.says("yes")
    rig.listening.on_utterance(None)
    rig.listening.stop()
    assert list(rig.listening) == [
        Result("y", False, 0, 100),
        Result("yes", True, 0, 400, 0.9, "en-US", (Word("yes", 0, 400),)),
    ]
    assert (rig.stopped, rig.listening.stopped) == ([rig.listening], "stopped")


def test_without_partials() -> None:
    rig = Rig(partials=False)
    rig.seems("y")
    rig.says("yes")
    rig.listening.stop()
    assert [result.text for result in rig.listening] == ["yes"]


def test_an_iteration_that_waits_is_ended_by_a_stop_from_elsewhere() -> None:
    rig = Rig()
    threading.Timer(0.05, rig.listening.stop, ("enough",)).start()
    assert list(rig.listening) == []
    rig.listening.stop("again")
    assert rig.listening.stopped == "enough"
    assert len(rig.stopped) == 1
    rig.says("too late")
    assert list(rig.listening) == []


def test_a_hangup_and_a_failure_end_it_as_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    rig = Rig()
    rig.says("yes")
    rig.listening.on_failure("stt is away")
    results = iter(rig.listening)
    assert next(results).text == "yes"
    with pytest.raises(RecognitionUnavailable, match="stt is away"):
        next(results)
    rig = Rig()
    rig.hung_up = True
    with pytest.raises(Hangup):
        next(iter(rig.listening))


def test_the_end_of_the_block_stops_it() -> None:
    rig = Rig()
    with rig.listening as listening:
        assert listening.stopped is None
    assert rig.listening.stopped == "stopped"


def test_what_nobody_takes_is_bounded_and_partial_results_go_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    rig = Rig()
    rig.says("1")
    rig.seems("2")
    for text in ("3", "4", "5"):
        rig.says(text)
    rig.listening.stop()
    assert [result.text for result in rig.listening] == ["3", "4", "5"]
    assert rig.listening.dropped == 2


def test_callbacks_get_the_same_in_order_on_one_thread() -> None:
    seen: list[tuple[str, str, str]] = []

    def note(kind: str) -> Callable[[Result], None]:
        return lambda r: seen.append((kind, r.text, threading.current_thread().name))

    rig = Rig(on_result=note("result"), on_final=note("final"))
    rig.seems("y")
    rig.says("yes")
    rig.seems("n")
    rig.callbacks.close(5)
    thread = "callbacks-test"
    assert seen == [
        ("result", "y", thread),
        ("result", "yes", thread),
        ("final", "yes", thread),
        ("result", "n", thread),
    ]


def test_a_callback_that_raises_is_logged_and_the_next_one_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callbacks = Callbacks("callbacks-test")
    seen: list[int] = []
    callbacks.call(lambda n: 1 // n, 0)
    callbacks.call(seen.append, 2)
    callbacks.close(5)
    assert seen == [2]
    assert "ZeroDivisionError" in caplog.text
    callbacks.call(seen.append, 3)
    assert seen == [2], "after the end none runs"


def test_a_callback_that_does_not_return_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(callbacks_module, "MAX_WAITING", 2)
    callbacks = Callbacks("callbacks-test")
    begun, release = threading.Event(), threading.Event()

    def stuck(_: int) -> None:
        begun.set()
        release.wait(10)

    callbacks.call(stuck, 0)
    assert begun.wait(5)
    seen: list[int] = []
    for n in range(5):
        callbacks.call(seen.append, n)
    assert callbacks.dropped == 3
    callbacks.close(0.01)
    assert "has not returned" in caplog.text
    release.set()
    callbacks.close(5)
    assert seen == []


def test_without_a_callback_there_is_no_thread() -> None:
    callbacks = Callbacks("callbacks-none")
    assert not callbacks.inside
    callbacks.close(1)
    assert all(thread.name != "callbacks-none" for thread in threading.enumerate())
