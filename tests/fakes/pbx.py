"""Asterisk as a call's other channels see it: AMI actions and events, a leg's AGI session."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from uuid import UUID

from backend.ami_watch import EventWatch
from backend.call.call import CallConfig, CallInfo
from backend.call.leg_desk import LegDesk
from backend.call.others import LegServices
from backend.call.runner import Services, VoiceConfig
from backend.call.screening import Judge, Wishes
from backend.call.streams import StreamListener
from backend.dialing.policy import Rules
from backend.errors import AsteriskError, Hangup
from backend.model import Record
from backend.ports import AmiReply
from backend.protocol.agi import Reply
from backend.protocol.ami import Message
from tests.fakes.prompts import FakePrompts
from tests.fakes.speech import FakeRecognizer

Headers = Mapping[str, str | list[str]]
Answer = Callable[[Headers], AmiReply]
OK = AmiReply(True, "", {})


def refusal(message: str) -> AmiReply:
    return AmiReply(False, message, {})


class FakeSession:
    """A leg's AGI session. ``hang_up`` as Asterisk does."""

    def __init__(self, uniqueid: str, channel: str = "PJSIP/t-1") -> None:
        self.env = {"agi_uniqueid": uniqueid, "agi_channel": channel}
        self.commands: list[tuple[str, ...]] = []
        self.aborted: str | None = None
        self.on_hold: Callable[[], object] = lambda: None
        self._over = threading.Event()

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        self.poll_hangup()
        self.commands.append((command, *map(str, args)))
        if args and args[0] == "BridgeWait":
            self.on_hold()
            assert self._over.wait(10)
            raise Hangup("the session ends with the bridge")
        return Reply(200, "", "0")

    def poll_hangup(self) -> None:
        if self._over.is_set():
            raise Hangup("gone")

    def wait_over(self) -> None:
        assert self._over.wait(10)

    def abort(self, why: str) -> None:
        self.aborted = why
        self._over.set()

    def hang_up(self) -> None:
        self._over.set()


class FakeStreams:
    """The frame sink."""

    def __init__(self) -> None:
        self.claimed: dict[str, StreamListener] = {}
        self.released: list[str] = []

    def claim(self, key: str, listener: StreamListener) -> None:
        self.claimed[key] = listener

    def release(self, key: str) -> None:
        self.released.append(key)


class FakePbx:
    """``ports.Ami``: each action is kept and answered by ``answers``; the default is success.

    ``on_originate(leg's id)`` runs in a thread of its own after Originate was answered: there a
    test lets the leg ring, answer, fail.
    """

    def __init__(self) -> None:
        self.connected = True
        self.watch = EventWatch()
        self.desk = LegDesk("127.0.0.1:4999")
        self.actions: list[tuple[str, Headers]] = []
        self.answers: dict[str, Answer] = {}
        self.on_originate: Callable[[str], object] = lambda _: None
        self.sessions: dict[str, FakeSession] = {}
        self._threads: list[threading.Thread] = []

    # ports.Ami

    def action(self, name: str, headers: Headers, *, timeout_s: float = 5.0) -> AmiReply:
        self.actions.append((name, headers))
        reply = self.answers[name](headers) if name in self.answers else OK
        if name == "Originate" and reply.success:
            self._start(lambda: self.on_originate(str(headers["ChannelId"])))
        if name == "Hangup" and reply.success:
            self.gone(str(headers["Channel"]), str(headers.get("Cause", "16")))
        return reply

    def send(
        self, name: str, headers: Headers, on_reply: Callable[[AmiReply | AsteriskError], None]
    ) -> None:
        try:
            on_reply(self.action(name, headers))
        except AsteriskError as error:
            on_reply(error)

    # What happens to a leg

    def event(self, name: str, uniqueid: str, **headers: str) -> None:
        self.watch.received([Message({"Event": name, "Uniqueid": uniqueid, **headers})])

    def rings(self, leg: str) -> None:
        self.event("Newchannel", leg, Channel="PJSIP/t-1")
        self.event("Newstate", leg, ChannelStateDesc="Ringing")

    def failed(self, leg: str, reason: str) -> None:
        self.event("OriginateResponse", leg, Response="Failure", Reason=reason)

    def answered(self, leg: str) -> FakeSession:
        """It is answered and comes to its worker."""
        self.rings(leg)
        self.event("OriginateResponse", leg, Response="Success", Reason="4")
        return self.comes(leg)

    def comes(self, leg: str) -> FakeSession:
        session = self.sessions[leg] = FakeSession(leg)
        session.on_hold = lambda: self.event("BridgeEnter", leg)
        self._start(lambda: self.desk.serve(session))
        return session

    def gone(self, leg: str, cause: str = "16") -> None:
        self.event("Hangup", leg, Cause=cause)
        if session := self.sessions.get(leg):
            session.hang_up()

    def names(self) -> list[str]:
        return [name for name, _ in self.actions]

    def join(self) -> None:
        """Every thread of a leg has come to its end."""
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), thread.name

    def _start(self, work: Callable[[], object]) -> None:
        thread = threading.Thread(target=work, name="fake-leg")
        self._threads.append(thread)
        thread.start()


class NoRecords:
    def append(self, *records: Record) -> None:
        """Nobody asks."""


def services(
    pbx: FakePbx,
    *,
    streams: FakeStreams | None = None,
    recognizer: FakeRecognizer | None = None,
    judge: Callable[[Wishes], Judge] | None = None,
) -> Services:
    """A worker's, on this Asterisk."""
    return Services(
        node="n",
        worker="voice-0",
        call=CallConfig(1, 1, 60, "/rec"),
        voice=VoiceConfig(2, 40, 600, own_end_of_utterance=True),
        default_scenario="test",
        language="en-US",
        fork_url="ws://127.0.0.1:8081/",
        own_fork=False,
        ami=pbx,
        streams=streams or FakeStreams(),
        recognizer=recognizer or FakeRecognizer(),
        records=NoRecords(),
        scenarios=dict,
        route=lambda number: None,
        prompts=FakePrompts(),
        stopping=lambda: False,
        legs=LegServices(pbx.desk, pbx.watch, Rules(caller_ids=("74950000000",)), judge),
    )


def info() -> CallInfo:
    """The call that dials."""
    return CallInfo(
        id=UUID(int=1),
        task_id=None,
        channel="PJSIP/x-1",
        uniqueid="u-1",
        direction="inbound",
        caller="100",
        called="200",
        scenario="test",
        file=None,
        language="en-US",
    )
