"""An AGI session that can be lent to another thread for one long command, while its own goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from backend.errors import AsteriskError, BadRequest, Hangup
from backend.protocol.agi import Reply

END_S = 5.0


class Session(Protocol):
    """agi_server.ThreadedAgi."""

    env: dict[str, str]
    asterisk_lost: bool
    aborted: str | None

    def command(self, command: str, *args: object, timeout_s: float) -> Reply: ...
    def poll_hangup(self) -> None: ...


class Errand:
    """A command that a thread of its own waits for. ``over`` when its result is there."""

    def __init__(self, name: str, run: Callable[[], Reply]) -> None:
        self.name = name
        self.over = threading.Event()
        self.failure: Hangup | AsteriskError | None = None
        self._run = run
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._run()
        except (Hangup, AsteriskError) as error:
            self.failure = error
        finally:
            self.over.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it came to its end within this."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class LentAgi:
    """A session; ``lend`` gives it away. Meanwhile a command is refused (BadRequest), and a hangup
    is known all the same. Used by the call's thread alone."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._errand: Errand | None = None

    @property
    def env(self) -> dict[str, str]:
        return self._session.env

    @property
    def asterisk_lost(self) -> bool:
        return self._session.asterisk_lost

    @property
    def aborted(self) -> str | None:
        return self._session.aborted

    def lend(self, why: str, command: str, *args: object, timeout_s: float) -> Errand:
        """Run the command in a thread called ``why``, which is what refused commands are told."""
        self.poll_hangup()
        if self._errand is not None:
            raise self._busy(self._errand)
        session = self._session
        self._errand = Errand(why, lambda: session.command(command, *args, timeout_s=timeout_s))
        return self._errand

    def command(self, command: str, *args: object, timeout_s: float) -> Reply:
        """One command, as agi_server.ThreadedAgi's. Raises BadRequest while it is lent."""
        self.poll_hangup()
        if self._errand is not None:
            raise self._busy(self._errand)
        return self._session.command(command, *args, timeout_s=timeout_s)

    def poll_hangup(self) -> None:
        """Raises Hangup once the channel is known to be gone."""
        errand = self._errand
        if errand is None:
            self._session.poll_hangup()
        elif errand.over.is_set():
            self._errand = None
            errand.join(END_S)
            if isinstance(errand.failure, Hangup):
                raise errand.failure
            self._session.poll_hangup()

    @staticmethod
    def _busy(errand: Errand) -> BadRequest:
        return BadRequest("call", f"is busy: {errand.name}")
