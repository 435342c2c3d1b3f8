"""Legs: further calls that a scenario dials for its own.

A leg is dialled by AMI Originate under a unique id of our own, ``leg-<uuid>``, and bears the
address of its worker (DIALOG_LEG); answered, the dialplan ([dialog-leg]) connects it there by
AGI. From then on it is parked: its AGI session belongs to the scenario's thread, and it has a
fork, an ear and a speaker like the call itself. Its own thread only waits for its end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import UUID

from backend.call import check
from backend.call.call import NO_RESULT_APP, Call, CallInfo
from backend.call.leg_desk import LegAgi, LegSession
from backend.call.leg_dialling import Dialling, LegStatus, status_of
from backend.call.leg_ending import Ending
from backend.call.line import Line, open_line
from backend.call.playback import Played
from backend.call.prompt import Prompts
from backend.call.screening import Screener, Tee, Verdict
from backend.call.streams import keyed_url
from backend.call.turn import Heard
from backend.errors import AsteriskUnavailable, BadRequest, CommandTimeout, Hangup, LegHangup
from backend.media.screening import Stage
from backend.model import Reason, Utterance

if TYPE_CHECKING:
    from backend.call.runner import Services

log = logging.getLogger(__name__)

CONTEXT = "dialog-leg"  # asterisk/dialplan
POLL_S = 0.2  # how often the call itself is asked whether it was hung up
ANSWER_GRACE_S = 10.0  # beyond the dial timeout, until Asterisk says how it ended
HANGUP_S = 5.0  # a hangup is awaited so long
BACK_S = 5.0  # after a bridge, until a leg is parked again
HELD_S = 1.0  # from BridgeWait() to the event
CHANNEL_S = 1.0  # from Originate to the channel
CAUSE_S = 0.5  # the Hangup event follows the end of AGI


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
        self._dialling = Dialling()
        self._held = False  # in a bridge of its own
        self._ending = Ending(self.id, str(owner.id))
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
        return self._dialling.cause

    @property
    def channel(self) -> str:
        """Asterisk's name of the channel; empty until there is one."""
        return self._dialling.channel

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
        self._ending.call_back(callback)
        if self.over:
            self._ending.tell(self)

    def hangup(self, cause: int = 16) -> None:
        """Hang it up, whatever it does now; waits until it is gone. ``cause``: Q.850. Over already:
        nothing happens."""
        check.cause(cause)
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
                if self._status is not LegStatus.DIALING or self._dialling.is_over(monotonic()):
                    break
                self._cond.wait(min(deadline - monotonic(), POLL_S))
            look()
        if self._status is LegStatus.DIALING:
            self._settle_unanswered()

    def _settle_unanswered(self) -> None:
        if not self.is_ending:  # Asterisk has said nothing at all
            self.refuse(Reason.NO_ANSWER, dialled=True)
        elif self.screener is not None and self.screener.wants_hangup:
            self._finish(LegStatus.SCREENED)
        else:
            status, self._reason = self._dialling.outcome()
            self._finish(status)

    def refuse(self, reason: Reason, *, dialled: bool) -> None:
        """It is over because of us: it was not dialled, or nothing more is known of it."""
        self._reason = reason
        if dialled:
            self.end(status_of(reason), 16)
        else:
            self._finish(status_of(reason))

    def end(self, status: LegStatus, cause: int) -> None:
        """Hang it up and wait for it; ``status``: what it is then, if it is not over already."""
        if self.over:
            self._ending.join()
            return
        if self._status is LegStatus.DIALING:
            self.await_channel()
        gone = self._send_hangup(cause)
        with self._cond:
            wait_s = HANGUP_S if gone else CAUSE_S
            told = self._cond.wait_for(lambda: self._dialling.hung or self.over, wait_s)
            if gone and not told:
                log.warning("%s: Asterisk did not tell of its end within %g s", self.id, HANGUP_S)
        if (session := self.agi.session) is not None and not self._dialling.hung:
            session.abort("the leg was hung up")  # the dialplan hangs it up then
        self._finish(status if self._status is LegStatus.DIALING else LegStatus.ENDED)
        self._ending.join()

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
        return self._dialling.ending_since is not None

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
            channel=self.channel,
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
            self._cond.wait_for(lambda: self._held or self._dialling.hung, HELD_S)

    def come_back(self, former: LegSession, *, keep: bool, parted: bool) -> None:
        """After the bridge: parked again, or over. ``parted``: the caller has left it, or it the
        caller; else nothing came of the bridge, and it waits there still."""
        if not keep:
            self.end(LegStatus.ENDED, 16)
            return
        if not parted and not self._dialling.hung:
            where = {"Context": CONTEXT, "Exten": "s", "Priority": "back"}
            self._services.ami.send("Redirect", {"Channel": self.id, **where}, lambda _: None)
        with self._cond:
            self._cond.wait_for(
                lambda: self._dialling.hung or self.over or self.agi.session not in (None, former),
                BACK_S,
            )
            if not self._dialling.hung and self.agi.session not in (None, former):
                self._status = LegStatus.PARKED
                return
        self.end(LegStatus.ENDED, 16)

    # Its own thread

    def serve(self, session: LegSession) -> None:
        """An AGI session of this leg has come: until it is over."""
        with self._cond:
            if self.over:
                return  # it is closed, and so hung up
            self._dialling.channel = session.env.get("agi_channel", self.channel)
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
            self._cond.wait_for(lambda: self._dialling.hung, CAUSE_S)
        self._finish(LegStatus.ENDED)

    # The AMI's thread

    def _told(self, event: Mapping[str, str]) -> None:
        with self._cond:
            self._dialling.told(event, monotonic())
            if event.get("Event") == "BridgeEnter":
                self._held = True
            self._cond.notify_all()
        if self.screener is not None and event.get("ChannelStateDesc") == "Ringing":
            self.screener.signalled(Stage.RINGING)

    def await_channel(self) -> str:
        """The channel that is being dialled, which Asterisk makes a moment after it was asked to;
        empty: none came. For any other thread."""
        with self._cond:
            self._cond.wait_for(lambda: self.channel or self.over or self.is_ending, CHANNEL_S)
            return self.channel

    # Its end, once; any thread but the AMI's

    def _finish(self, status: LegStatus) -> None:
        with self._cond:
            if self.over:
                return
            self._status = status
            self._cond.notify_all()
        log.info(
            "call %s: %s to %s: %s%s", self._owner.id, self.id, self.number, status,
            f", cause {self.cause}" if self.cause else "",
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
        self._ending.tell(self)
        self._ending.finish()


__all__ = ["Leg", "LegStatus"]
