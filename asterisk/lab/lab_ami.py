"""A small AMI client for the lab's tests: an observer that is independent of the backend's own.

One thread reads and keeps every event; actions may be sent from any thread. Asterisk's own framing
(main/manager.c): headers end with CR LF, a message with an empty line.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

from lab_config import LabError

Message = dict[str, str]
"""One message; of a header that comes several times (Variable, ChanVariable) the last one."""


class Ami:
    """A logged-in AMI connection that remembers every event, in order, in `events`."""

    def __init__(self, port: int, user: str, secret: str, *, timeout_s: float = 5) -> None:
        """Connect to 127.0.0.1:PORT and log in. Raises LabError when refused, OSError when away."""
        self.events: list[Message] = []
        self._answers: dict[str, Message] = {}
        self._ids = itertools.count(1)
        self._news = threading.Condition()
        self._closed = False
        self._timeout_s = timeout_s
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self._socket.settimeout(None)
        self._reader = threading.Thread(target=self._read, name="lab-ami", daemon=True)
        self._reader.start()
        answer = self.action("Login", Username=user, Secret=secret)
        if answer["Response"] != "Success":
            self.close()
            raise LabError(f"AMI login of {user}: {answer.get('Message')}")

    def __enter__(self) -> Ami:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def action(self, name: str, **headers: str | list[str]) -> Message:
        """Send an action; its response. A list makes one header line per item (Variable).

        Raises LabError when no response comes in time or the connection ends.
        """
        number = str(next(self._ids))
        lines = [f"Action: {name}", f"ActionID: {number}"]
        for key, value in headers.items():
            lines += [f"{key}: {item}" for item in ([value] if isinstance(value, str) else value)]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._await(lambda: number in self._answers, f"the response to {name}", self._timeout_s)
        return self._answers.pop(number)

    def originate(
        self,
        number: str,
        context: str,
        variables: dict[str, str] | None = None,
        *,
        exten: str = "s",
        trunk: str = "subscriber",
        timeout_ms: int = 30_000,
        early_media: bool = False,
    ) -> str:
        """Call NUMBER through TRUNK; once it answers (EARLY_MEDIA: or sends sound before that), go
        to EXTEN in CONTEXT.

        Returns the channel's unique id, which is known before the call is made. Raises LabError
        when Asterisk refuses.
        """
        channel_id = f"lab-{number}-{time.monotonic_ns()}"
        answer = self.action(
            "Originate",
            Channel=f"PJSIP/{number}@{trunk}",
            Context=context,
            Exten=exten,
            Priority="1",
            Timeout=str(timeout_ms),
            Async="true",
            ChannelId=channel_id,
            EarlyMedia=str(early_media).lower(),
            Variable=[f"{key}={value}" for key, value in (variables or {}).items()],
        )
        if answer["Response"] != "Success":
            raise LabError(f"Originate {number}: {answer.get('Message')}")
        return channel_id

    def event(self, name: str, timeout_s: float = 10, **wanted: str) -> Message:
        """The first event NAME with these headers, past or to come. Raises LabError: none came."""

        def find() -> Message | None:
            for event in self.events:
                if event["Event"] == name and wanted.items() <= event.items():
                    return event
            return None

        self._await(lambda: find() is not None, f"the event {name} {wanted}", timeout_s)
        found = find()
        assert found is not None
        return found

    def forget(self) -> None:
        """Forget all events so far: a test with thousands of calls looks through them too long."""
        with self._news:
            self.events.clear()

    def close(self) -> None:
        """Close the connection and end its thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(self._timeout_s)
        self._socket.close()

    def _await(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._closed or ready(), timeout_s)
            if not ready():
                raise LabError(f"AMI: {what} did not come")

    def _read(self) -> None:
        stream = self._socket.makefile("r", encoding="utf-8", errors="replace", newline="\r\n")
        message: Message = {}
        try:
            for line in stream:
                key, colon, value = line.rstrip("\r\n").partition(": ")
                if colon:
                    message[key] = value
                elif message and not line.strip():
                    self._keep(message)
                    message = {}
        except OSError:
            pass
        finally:
            stream.close()
            with self._news:
                self._closed = True
                self._news.notify_all()

    def _keep(self, message: Message) -> None:
        with self._news:
            if "Event" in message:
                self.events.append(message)
            elif "ActionID" in message:
                self._answers[message["ActionID"]] = message
            self._news.notify_all()
