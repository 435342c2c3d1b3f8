"""The local speech server and clients of it, for every test that needs real speech."""

from __future__ import annotations

import random
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from backend.ports import (
    Hypothesis,
    RecognitionEvent,
    RecognitionFailed,
    RecognitionStream,
    StreamEnded,
    UtteranceEnded,
)
from backend.speech.local_process import LocalSpeechServer
from backend.speech.speechkit import Endpoint, SpeechKitRecognizer, SpeechKitSynthesizer

WAIT_S = 15.0
ServerFactory = Callable[..., LocalSpeechServer]


class Hearing:
    """Receives recognition events; ``wait`` for them with a deadline."""

    def __init__(self) -> None:
        self.events: list[RecognitionEvent] = []
        self.threads: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, event: RecognitionEvent) -> None:
        with self._changed:
            self.events.append(event)
            self.threads.add(threading.current_thread().name)
            self._changed.notify_all()

    def wait(self, wanted: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
        with self._changed:
            assert self._changed.wait_for(wanted, timeout_s), self.events

    def wait_ends(self, count: int = 1) -> None:
        """Until so many utterances have ended."""
        self.wait(lambda: len(self.ends) >= count or self.failure is not None)
        assert self.failure is None, self.failure

    def wait_last(self) -> RecognitionEvent:
        """The stream's last event."""
        self.wait(lambda: self.failure is not None or self.closed)
        return self.events[-1]

    @property
    def finals(self) -> list[Hypothesis]:
        return [e for e in self.events if isinstance(e, Hypothesis) and e.final]

    @property
    def partials(self) -> list[Hypothesis]:
        return [e for e in self.events if isinstance(e, Hypothesis) and not e.final]

    @property
    def texts(self) -> list[str]:
        return [final.text for final in self.finals]

    @property
    def ends(self) -> list[UtteranceEnded]:
        return [e for e in self.events if type(e) is UtteranceEnded]

    @property
    def failure(self) -> RecognitionFailed | None:
        return next((e for e in self.events if isinstance(e, RecognitionFailed)), None)

    @property
    def closed(self) -> bool:
        return any(isinstance(e, StreamEnded) for e in self.events)


@cache
def line_noise(duration_ms: int, amplitude: float = 4, seed: int = 1) -> bytes:
    """What a silent line sounds like."""
    source = random.Random(seed)
    return array("h", [round(source.gauss(0, amplitude)) for _ in range(duration_ms * 8)]).tobytes()


def send(stream: RecognitionStream, pcm: bytes, chunk_ms: int = 100) -> None:
    for place in range(0, len(pcm), chunk_ms * 16):
        stream.feed(pcm[place : place + chunk_ms * 16])


def local(address: str) -> Endpoint:
    return Endpoint(address, "speechkit_stt", insecure=True)


@pytest.fixture(scope="session")
def speech_server() -> Iterator[LocalSpeechServer]:
    """One server with SpeechKit's limits, but for the rate of requests."""
    server = LocalSpeechServer(arguments=["--requests-per-s", "1000"])
    yield server
    server.stop()


@pytest.fixture
def start_speech_server() -> Iterator[ServerFactory]:
    """Servers with limits of their own: ``start_speech_server("--session-s", "6")``."""
    servers: list[LocalSpeechServer] = []

    def start(*arguments: str, port: int = 0) -> LocalSpeechServer:
        servers.append(LocalSpeechServer(port=port, arguments=arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def say(speech_server: LocalSpeechServer) -> Iterator[Callable[[str], bytes]]:
    """English speech as slin16."""
    synthesizer = SpeechKitSynthesizer(local(speech_server.address))
    yield cache(lambda text: synthesizer.synthesize(text, language="en-US", timeout_s=WAIT_S))
    synthesizer.close()


@pytest.fixture
def recognizer(speech_server: LocalSpeechServer) -> Iterator[SpeechKitRecognizer]:
    """A client of ``speech_server``; no thread of it may be left after the test."""
    client = SpeechKitRecognizer(local(speech_server.address))
    yield client
    client.close()
    assert_no_threads("stt-")


def assert_no_threads(prefix: str, timeout_s: float = WAIT_S) -> None:
    """Threads that are ending may take a moment to be gone."""
    deadline = time.monotonic() + timeout_s
    while left := [t.name for t in threading.enumerate() if t.name.startswith(prefix)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
