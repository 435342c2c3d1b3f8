"""A call in the test's hands: its channel, its recogniser, its audio, its keys, its clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import uuid4

from backend.call.backchannel import BackchannelBook
from backend.call.call import Call, CallConfig, CallInfo
from backend.call.dialogue import Dialogue, TalkConfig
from backend.call.ear import CallEar
from backend.call.fork import CallFork
from backend.call.gate import KeyGate
from backend.call.keys import Keys
from backend.call.playback import FilePlayback
from backend.call.speaker import Speaker
from backend.call.steps import StepLog
from backend.call.streaming import StreamPlayback
from backend.media.gate import VoiceGate
from backend.media.voice import SpeechEnded, SpeechStarted, VoiceEvent
from backend.model import CallStep, Utterance
from backend.ports import (
    FRAME_BYTES,
    Hypothesis,
    RecognitionEvent,
    RecognitionOptions,
    StreamEnded,
    UtteranceEnded,
)
from backend.protocol import fork
from tests.fakes.channel import FakeChannel
from tests.fakes.fork_module import FakeModule
from tests.fakes.prompts import FakePrompts

VOICE = b"\x01" * FRAME_BYTES
QUIET = b"\x00" * FRAME_BYTES


class ByValueDetector:
    """A voice detector for tests: a frame of VOICE is voice; one frame begins, two quiet end."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._quiet = 2
        self.end_silence_ms: list[int | None] = []

    def end_silence(self, silence_ms: int | None) -> None:
        self.end_silence_ms.append(silence_ms)

    def feed(self, pcm: bytes) -> list[VoiceEvent]:
        events: list[VoiceEvent] = []
        for at in range(0, len(pcm), FRAME_BYTES):
            self.now_ms += 20
            was = self._quiet < 2
            self._quiet = 0 if pcm[at] else min(self._quiet + 1, 2)
            if (self._quiet < 2) != was:
                kind = SpeechEnded if was else SpeechStarted
                events.append(kind(self.now_ms, self.now_ms - 20))
        return events


@dataclass
class FakeRecognizer:
    """Delivers ``texts`` in turn at each end of utterance; keeps what it was fed."""

    texts: list[str] = field(default_factory=list)
    audio: bytearray = field(default_factory=bytearray)
    silence_ms: int = 0
    silent: bool = False  # never answers
    options: list[RecognitionOptions] = field(default_factory=list)
    closed: bool = False
    on_event: Callable[[RecognitionEvent], None] = lambda _: None

    def open(
        self, options: RecognitionOptions, on_event: Callable[[RecognitionEvent], None]
    ) -> FakeRecognizer:
        self.on_event = on_event
        self.options.append(options)
        return self

    def change(self, options: RecognitionOptions) -> None:
        if options != self.options[-1]:
            self.options.append(options)

    def partial(self, text: str) -> None:
        """It seems that the caller is saying this."""
        at_ms = len(self.audio) // 16 + self.silence_ms
        self.on_event(Hypothesis(text, False, max(at_ms - 200, 0), at_ms + 20))

    def feed(self, pcm: bytes) -> None:
        self.audio += pcm

    def silence(self, duration_ms: int) -> None:
        self.silence_ms += duration_ms

    def end_utterance(self) -> None:
        if self.silent:
            return
        at_ms = len(self.audio) // 16 + self.silence_ms
        text = self.texts.pop(0) if self.texts else ""
        if text:
            self.on_event(Hypothesis(text, True, max(at_ms - 200, 0), at_ms, 0.9, "ru-RU"))
        self.on_event(UtteranceEnded(at_ms))

    def close(self) -> None:
        self.closed = True
        if not self.silent:
            self.on_event(StreamEnded(0))


class Talk:
    """A call. Asterisk plays its prompts from files, or, ``streamed``, a fork's module does;
    ``close`` it then."""

    def __init__(
        self, *, own_end: bool = True, streamed: bool = False, decide_ms: int = 1000
    ) -> None:
        self.now = 1000.0  # the stream's wall clock
        self.channel = FakeChannel()
        self.recognizer = FakeRecognizer()
        self.said: list[Utterance] = []
        self.recordings: list[str] = []
        self.ear = CallEar(
            "PJSIP/x-1",
            self.recognizer,
            RecognitionOptions(),
            VoiceGate(ByValueDetector(), pre_roll_ms=20),  # type: ignore[arg-type]
            own_end_of_utterance=own_end,
            on_utterance=self.said.append,
            clock=lambda: self.now,
        )
        self.stream = StreamPlayback(self.channel, "PJSIP/x-1")
        self.keys = Keys()
        files = FilePlayback(self.channel, self.channel, "PJSIP/x-1")
        self.speaker = Speaker("PJSIP/x-1", self.stream, files)
        self.steps: list[CallStep] = []
        step_log = StepLog(uuid4(), None, self.steps.append, lambda: self.ear.position_ms)
        self.gate = KeyGate("PJSIP/x-1", self.keys, self.ear, self.speaker.stop, step_log)
        self.speaker.watch(self.gate)
        self.fork = CallFork("PJSIP/x-1", self.ear, self.stream, self.gate)
        self.prompts = FakePrompts()
        info = CallInfo(
            uuid4(), None, "PJSIP/x-1", "1", "inbound", "100", "200", "test", None, "ru-RU"
        )
        self.dialogue = Dialogue(
            "PJSIP/x-1",
            TalkConfig("ru-RU", 5, 0.2, 60, decide_ms, BackchannelBook({"ru": ["угу", "да да"]})),
            self.channel,
            self.speaker,
            self.ear,
            self.keys,
            self.gate,
            prompts=self.prompts,
            on_spoken=self.said.append,
        )
        self.call = Call(
            info,
            CallConfig(command_s=5, recognition_s=0.2, max_call_s=60, recordings_dir="/rec/"),
            self.channel,
            self.dialogue,
            on_recording=self.recordings.append,
            step_log=step_log,
        )
        self.module: FakeModule | None = None
        if streamed:
            self.module = self.channel.module = FakeModule()
            self.module.connect(self.fork)
        else:
            self.stream.expect_none()
            self.ear.on_open()

    def goes_by(self, time_s: float) -> None:
        """Time, with a tick every 100 ms and no audio."""
        for _ in range(round(time_s * 10)):
            self.now = round(self.now + 0.1, 3)
            self.ear.on_tick()

    def close(self) -> None:
        """Ends its threads."""
        self.dialogue.close()
        if self.module is not None:
            self.module.close()

    def hear_frames(self, *frames: bytes) -> None:
        for frame in frames:
            self.ear.on_audio(frame)

    def press(self, keys: str) -> None:
        """The fork tells of keys, in their place in the audio."""
        for key in keys:
            verdict = "passed" if self.module is None else self.module.verdict
            self.fork.on_message(fork.Digit(key, 80, verdict, self.ear.position_ms))

    def at(self, played_ms: int, event: Callable[[], object]) -> None:
        """When so much of the prompt has been played, in the thread that plays it."""
        assert self.module is not None
        before = self.module.on_played

        def on_played(now_ms: int) -> None:
            before(now_ms)
            if now_ms == played_ms:
                event()
                self.settle()

        self.module.on_played = on_played

    def settle(self) -> None:
        """Until the module has been told what was decided so far."""
        assert self.module is not None
        self.module.settle()

    def while_paused(self, event: Callable[[], object]) -> None:
        """When the prompt stands still, in a thread of its own; each time."""
        assert self.module is not None
        self.module.on_paused = lambda: threading.Timer(0.01, event).start()

    @property
    def heard_ms(self) -> int:
        """How much of the prompts was played to the caller."""
        assert self.module is not None
        return len(self.module.heard) // 16

    @property
    def told(self) -> list[fork.ToModule]:
        assert self.module is not None
        boring = fork.Play | fork.End | fork.Guard
        return [m for m in self.module.messages if not isinstance(m, boring)]
