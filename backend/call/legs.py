"""Legs: further calls that a scenario dials for its own.

A leg is dialled by AMI Originate under a unique id of our own, ``leg-<uuid>``, and bears the
address of its worker (DIALOG_LEG); answered, the dialplan ([dialog-leg]) connects it there by
AGI. From then on it is parked: its AGI session belongs to the scenario's thread, and it has a
fork, an ear and a speaker like the call itself. Its own thread only waits for its end.

How a leg that nobody answered ended is told by two AMI events in any order
(dialing/outcomes.py).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from backend.call.call import NO_RESULT_APP, Call, CallInfo
from backend.call.line import Line, open_line
from backend.call.playback import Played
from backend.call.prompt import Prompts
from backend.call.screening import Screener, Tee, Verdict
from backend.call.streams import keyed_url
from backend.call.turn import Heard
from backend.dialing.outcomes import unanswered
from backend.errors import AsteriskUnavailable, BadRequest, CommandTimeout, Hangup, LegHangup
from backend.media.screening import Stage
from backend.model import Reason, Utterance
from backend.protocol.agi import Reply

if TYPE_CHECKING:
    from backend.call.runner import Services

log = logging.getLogger(__name__)

CONTEXT = "dialog-leg"  # asterisk/dialplan
POLL_S = 0.2  # how often the call itself is asked whether it was hung up
SECOND_EVENT_S = 5.0  # Hangup and OriginateResponse: the second follows within this, or never
ANSWER_GRACE_S = 10.0  # beyond the dial timeout, until Asterisk says how it ended
HANGUP_S = 5.0  # a hangup is awaited so long
BACK_S = 5.0  # after a bridge, until a leg is parked again
HELD_S = 1.0  # from BridgeWait() to the event
CHANNEL_S = 1.0  # from Originate to the channel
CAUSE_S = 0.5  # the Hangup event follows the end of AGI
CALLBACKS_S = 5.0


class LegStatus(StrEnum):
    """Where a leg is, or how it ended; from BUSY on nobody has answered."""

    DIALING = "dialing"
    PARKED = "parked"
    BRIDGED = "bridged"
    ENDED = "ended"  # it was answered, and is over
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    REJECTED = "rejected"
    INVALID_NUMBER = "invalid_number"
    UNREACHABLE = "unreachable"
    CONGESTION = "congestion"
    SCREENED = "screened"  # hung up before the answer, for what was heard
    FAILED = "failed"  # anything else; see ``reason``


class LegSession(Protocol):
    """agi_server.ThreadedAgi."""

    env: dict[str, str]

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...
    def wait_over(self) -> None: ...
    def abort(self, why: str) -> None: ...


class LegDesk:
    """A worker's legs: whose is the AGI session that comes. Thread-safe.

    ``address``: host:port of the worker's FastAGI server for legs, as Asterisk reaches it.
    """

    def __init__(self, address: str = "") -> None:
        self.address = address
        self._lock = threading.Lock()
        self._legs: dict[str, Leg] = {}

    def expect(self, leg: Leg) -> None:
        with self._lock:
            self._legs[leg.id] = leg

    def forget(self, leg: Leg) -> None:
        with self._lock:
            self._legs.pop(leg.id, None)

    @property
    def legs(self) -> int:
        """Legs that are dialled, parked or bridged."""
        with self._lock:
            return len(self._legs)

    def serve(self, session: LegSession) -> None:
        """In the session's own thread: until it is over."""
        uniqueid = session.env.get("agi_uniqueid", "")
        with self._lock:
            leg = self._legs.get(uniqueid)
        if leg is None:
            log.warning("FastAGI for legs: nobody waits for %.60r: it is hung up", uniqueid)
        else:
            leg.serve(session)


class LegAgi:
    """The session that a leg has at present: none before its answer, while it is bridged, after
    its end. Implements call.Agi."""

    def __init__(self) -> None:
        self.session: LegSession | None = None

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        return self._here().command(command, *args, timeout_s=timeout_s)

    def poll_hangup(self) -> None:
        self._here().poll_hangup()

    def _here(self) -> LegSession:
        session = self.session
        if session is None:
            raise Hangup("the leg has hung up")
        return session


class Leg:
    """A further call of a scenario. ``speak`` and ``hear`` as the call's own; the leg belongs to
    the scenario's thread, and is hung up with it at the latest."""

    def __init__(self, id_: UUID, number: str, owner: CallInfo, services: Services) -> None:
        self.id = f"leg-{id_}"
        self.number = number
        self.agi = LegAgi()
        self.screener: Screener | None = None  # of dial_screened
        self._uuid = id_
        self._owner = owner
        self._services = services
        self._cond = threading.Condition()  # guards what follows; never held for long
        self._status = LegStatus.DIALING
        self._reason: Reason | None = None
        self._cause: int | None = None
        self._channel = ""
        self._hung = False  # Asterisk said so
        self._held = False  # in a bridge of its own
        self._response: str | None = None  # of OriginateResponse
        self._originate_reason: int | None = None
        self._first_word_at: float | None = None  # of the two about its end
        self._callbacks: list[Callable[[Leg], object]] = []
        self._callers: list[threading.Thread] = []
        self._finished = threading.Event()
        self._calling = threading.Lock()  # one callback after another
        self._line_lock = threading.Lock()  # opened and closed once, by different threads
        self._line: Line | None = None
        self._closed = False
        services.legs.desk.expect(self)
        self._unwatch = services.legs.events.watch(self.id, self._told)

    # For the author

    @property
    def status(self) -> LegStatus:
        return self._status

    @property
    def parked(self) -> bool:
        """Answered, and there to be spoken to."""
        return self._status is LegStatus.PARKED

    @property
    def over(self) -> bool:
        return self._status not in (LegStatus.DIALING, LegStatus.PARKED, LegStatus.BRIDGED)

    @property
    def reason(self) -> Reason | None:
        """Why nobody answered, from the closed list of endings; None while it lives, or after an
        answer."""
        return self._reason

    @property
    def cause(self) -> int | None:
        """Q.850 hangup cause, once it is over; None: Asterisk gave none."""
        return self._cause

    @property
    def channel(self) -> str:
        """Asterisk's name of the channel; empty until there is one."""
        return self._channel

    @property
    def screening(self) -> Verdict | None:
        """After ``dial_screened``: what became of it, and what said so; None: nothing did."""
        return self.screener.verdict if self.screener is not None else None

    def speak(self, prompt: Prompts, **options: Any) -> Played:
        """As ``Call.speak``. Raises LegHangup when it is over, BadRequest while it is bridged."""
        with self._own_end():
            return self._talk().speak(prompt, **options)

    def hear(self, prompt: Prompts | None = None, **options: Any) -> Heard:
        """As ``Call.hear``. Raises LegHangup when it is over, BadRequest while it is bridged."""
        with self._own_end():
            return self._talk().hear(prompt, **options)

    @contextmanager
    def _own_end(self) -> Iterator[None]:
        """That a leg is over is another thing than that the call is."""
        try:
            yield
        except Hangup as gone:
            raise LegHangup(str(gone)) from gone

    def on_hangup(self, callback: Callable[[Leg], object]) -> None:
        """``callback(leg)`` runs once, in a thread of its own, when the leg is over; at once, when
        it is already. Callbacks run one after another."""
        with self._cond:
            self._callbacks.append(callback)
            due = self.over
        if due:
            self._call_back()

    def hangup(self, cause: int = 16) -> None:
        """Hang it up, whatever it does now; waits until it is gone. ``cause``: Q.850. Over already:
        nothing happens."""
        if type(cause) is not int or not 1 <= cause <= 127:
            raise BadRequest("cause", f"{cause!r}: expected a Q.850 cause, 1 to 127")
        self.end(LegStatus.ENDED, cause)

    def _talk(self) -> Call:
        if self._status is LegStatus.BRIDGED:
            raise BadRequest("leg", "is bridged: it can be spoken to when that is over")
        if self._line is None or self.over:
            raise Hangup(f"the leg is over: {self._status}")
        return self._line.call

    # For the call it belongs to; the scenario's thread

    def await_answer(self, deadline: float, look: Callable[[], None]) -> None:
        """Until it is parked or over; ``look`` is called several times a second and may raise."""
        while monotonic() < deadline:
            with self._cond:
                if self._status is not LegStatus.DIALING or self._ended_unanswered():
                    break
                self._cond.wait(min(deadline - monotonic(), POLL_S))
            look()
        if self._status is LegStatus.DIALING:
            self._settle_unanswered()

    def _ended_unanswered(self) -> bool:
        """With the lock: whether Asterisk has said all it will say of a leg without an answer."""
        if self._first_word_at is None:
            return False
        if self._response == "Failure" and not self._channel:
            return True  # no channel could be made: no Hangup will come
        both = self._hung and self._response is not None
        return both or monotonic() - self._first_word_at > SECOND_EVENT_S

    def _settle_unanswered(self) -> None:
        if self._first_word_at is None:  # Asterisk has said nothing at all
            self.refuse(Reason.NO_ANSWER, dialled=True)
        elif self.screener is not None and self.screener.wants_hangup:
            self._finish(LegStatus.SCREENED)
        elif self._response == "Success":
            self._finish(LegStatus.ENDED)  # answered, and gone before AGI began
        else:
            self._reason = unanswered(self._cause, self._originate_reason).reason
            self._finish(_status_of(self._reason))

    def refuse(self, reason: Reason, *, dialled: bool) -> None:
        """It is over because of us: it was not dialled, or nothing more is known of it."""
        self._reason = reason
        if dialled:
            self.end(_status_of(reason), 16)
        else:
            self._finish(_status_of(reason))

    def end(self, status: LegStatus, cause: int) -> None:
        """Hang it up and wait for it; ``status``: what it is then, if it is not over already."""
        if self.over:
            self._join()
            return
        if self._status is LegStatus.DIALING:
            self.await_channel()
        gone = self._send_hangup(cause)
        with self._cond:
            wait_s = HANGUP_S if gone else CAUSE_S
            told = self._cond.wait_for(lambda: self._hung or self.over, wait_s)
            if gone and not told:
                log.warning("%s: Asterisk did not tell of its end within %g s", self.id, HANGUP_S)
        if (session := self.agi.session) is not None and not self._hung:
            session.abort("the leg was hung up")  # the dialplan hangs it up then
        self._finish(status if self._status is LegStatus.DIALING else LegStatus.ENDED)
        self._join()

    def screen_out(self) -> None:
        """What was heard before the answer makes it needless. Answered meanwhile: it is kept."""
        if self._status is LegStatus.DIALING:
            self.end(LegStatus.SCREENED, 16)

    def judged(self, verdict: Verdict) -> None:
        """The screener's verdict is there. Any thread, must not block: ``end`` waits for it."""
        if verdict.hang_up and (verdict.answered or self._status is LegStatus.DIALING):
            self.send_hangup()
        with self._cond:
            self._cond.notify_all()

    def await_verdict(self, look: Callable[[], None]) -> None:
        """Answered: until it is known who it is, as long as the judge takes for it."""
        screener = self.screener
        if screener is None:
            return
        screener.signalled(Stage.ANSWERED)
        while screener.judging and self.parked:
            look()
            with self._cond:
                if screener.judging and self.parked:
                    self._cond.wait(POLL_S)
        if screener.verdict is not None and screener.verdict.hang_up:
            self.end(LegStatus.ENDED, 16)

    @property
    def is_ending(self) -> bool:
        """Asterisk has said that nobody answers."""
        return self._first_word_at is not None

    def send_hangup(self) -> None:
        """Only say so; ``end`` waits. For several at once, or from the audio loop."""
        if not self.over:
            self._services.ami.send("Hangup", {"Channel": self.id, "Cause": "16"}, lambda _: None)

    def _send_hangup(self, cause: int) -> bool:
        """Whether an event is to be waited for."""
        try:
            reply = self._services.ami.action("Hangup", {"Channel": self.id, "Cause": str(cause)})
        except (AsteriskUnavailable, CommandTimeout) as error:
            log.warning("%s: cannot be hung up by AMI: %s", self.id, error)
            return False
        if not reply.success:
            log.debug("%s: %s", self.id, reply.message)
        return reply.success

    def open(self) -> None:
        """Answered: start its fork, so that it can be heard. Raises Hangup."""
        info = CallInfo(
            id=self._uuid,
            task_id=None,
            channel=self._channel,
            uniqueid=self.id,
            direction="outbound",
            caller="",
            called=self.number,
            scenario=self._owner.scenario,
            file=None,
            language=self._owner.language,
        )
        with self._line_lock:
            if self._closed:
                raise Hangup("the leg has hung up")
            line = self._line = open_line(
                self.agi, info, self._services, on_said=self._said, on_recorded=self._recorded
            )
            own = line.fork if self.screener is None else Tee(self.screener, line.fork)
            self._services.streams.claim(self.id, own)
        if self.screener is None or not self.screener.forked:  # else it is there since then
            self._fork(line)

    def _fork(self, line: Line) -> None:
        url = keyed_url(self._services.fork_url, self.id)
        timeout_s = self._services.call.command_s
        result = self.agi.command(
            "EXEC", "AudioFork", f"{url},D(read)j", timeout_s=timeout_s
        ).result
        if result == NO_RESULT_APP:
            log.error("%s: no audio: is app_audiofork.so loaded?", self.id)
            line.stream.expect_none()

    def _said(self, utterance: Utterance) -> None:
        who = "leg" if utterance.speaker == "caller" else "robot"
        log.info("call %s: %s: %s: %s", self._owner.id, self.id, who, utterance.text)

    def _recorded(self, path: str) -> None:
        log.info("call %s: %s: recorded to %s", self._owner.id, self.id, path)

    # Bridging; the scenario's thread

    def leave_for_bridge(self) -> LegSession:
        """From now on the end of its AGI session is not its own. Returns that session. Raises
        Hangup when it was answered and is over, BadRequest when it is not parked otherwise."""
        with self._cond:
            over = self._status is LegStatus.ENDED
            if over or (self._status is LegStatus.PARKED and self.agi.session is None):
                raise Hangup("the leg has hung up")
            if self._status is not LegStatus.PARKED or self.agi.session is None:
                raise BadRequest("leg", f"is not parked but {self._status}")
            self._status = LegStatus.BRIDGED
            self._held = False
            return self.agi.session

    def await_held(self) -> None:
        """Until it is in a bridge of its own; when Asterisk does not say so in time, go on."""
        with self._cond:
            self._cond.wait_for(lambda: self._held or self._hung, HELD_S)

    def come_back(self, former: LegSession, *, keep: bool, parted: bool) -> None:
        """After the bridge: parked again, or over. ``parted``: the caller has left it, or it the
        caller; else nothing came of the bridge, and it waits there still."""
        if not keep:
            self.end(LegStatus.ENDED, 16)
            return
        if not parted and not self._hung:
            where = {"Context": CONTEXT, "Exten": "s", "Priority": "back"}
            self._services.ami.send("Redirect", {"Channel": self.id, **where}, lambda _: None)
        with self._cond:
            self._cond.wait_for(
                lambda: self._hung or self.over or self.agi.session not in (None, former), BACK_S
            )
            if not self._hung and self.agi.session not in (None, former):
                self._status = LegStatus.PARKED
                return
        self.end(LegStatus.ENDED, 16)

    # Its own thread

    def serve(self, session: LegSession) -> None:
        """An AGI session of this leg has come: until it is over."""
        with self._cond:
            if self.over:
                return  # it is closed, and so hung up
            self._channel = session.env.get("agi_channel", self._channel)
            self.agi.session = session
            self._status = LegStatus.PARKED
            self._cond.notify_all()
        session.wait_over()
        with self._cond:
            if self.agi.session is not session:
                return
            self.agi.session = None
            if self._status is LegStatus.BRIDGED:
                return
            self._cond.wait_for(lambda: self._hung, CAUSE_S)
        self._finish(LegStatus.ENDED)

    # The AMI's thread

    def _told(self, event: Mapping[str, str]) -> None:
        name = event.get("Event")
        with self._cond:
            if name == "Newchannel":
                self._channel = event.get("Channel", "")
            elif name == "OriginateResponse":
                self._response = event.get("Response", "")
                self._originate_reason = _number(event.get("Reason"))
                if self._response != "Success":
                    self._first_word_at = self._first_word_at or monotonic()
            elif name == "BridgeEnter":
                self._held = True
            elif name == "Hangup":
                self._cause = _number(event.get("Cause"))
                self._hung = True
                self._first_word_at = self._first_word_at or monotonic()
            self._cond.notify_all()
        if self.screener is not None and event.get("ChannelStateDesc") == "Ringing":
            self.screener.signalled(Stage.RINGING)

    def await_channel(self) -> str:
        """The channel that is being dialled, which Asterisk makes a moment after it was asked to;
        empty: none came. For any other thread."""
        with self._cond:
            self._cond.wait_for(
                lambda: self._channel or self.over or self._first_word_at is not None, CHANNEL_S
            )
            return self._channel

    # Its end, once; any thread but the AMI's

    def _finish(self, status: LegStatus) -> None:
        with self._cond:
            if self.over:
                return
            self._status = status
            self._cond.notify_all()
        log.info(
            "call %s: %s to %s: %s%s", self._owner.id, self.id, self.number, status,
            f", cause {self._cause}" if self._cause else "",
        )  # fmt: skip
        self._unwatch()
        self._services.legs.desk.forget(self)
        with self._line_lock:
            self._closed = True
            line = self._line
        if line is not None or self.screener is not None:
            self._services.streams.release(self.id)
        if line is not None:
            line.dialogue.close()
            line.ear.close(0)
        self._call_back()
        self._finished.set()

    def _call_back(self) -> None:
        thread = threading.Thread(target=self._run_callbacks, name=f"{self.id}-hangup", daemon=True)
        with self._cond:
            if not self._callbacks:
                return
            self._callers.append(thread)
        thread.start()

    def _run_callbacks(self) -> None:
        with self._calling:
            while self._callbacks:
                callback = self._callbacks.pop(0)
                try:
                    callback(self)
                except Exception:
                    log.exception("call %s: %s: on_hangup failed", self._owner.id, self.id)

    def _join(self) -> None:
        """What its end entails, in whatever thread, is done within a deadline; callbacks, too."""
        self._finished.wait(CALLBACKS_S)
        for thread in self._callers:
            if thread is not threading.current_thread():
                thread.join(CALLBACKS_S)


def _status_of(reason: Reason) -> LegStatus:
    try:
        return LegStatus(reason.value)
    except ValueError:
        return LegStatus.FAILED


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
