"""AMI on the wire: messages read from bytes, actions written to bytes. Pure.

Measured on Asterisk 16.28: a line of 1,022 bytes (without CR LF) is understood, one of 1,023 spoils
its message; the 129th header is dropped; ``Variable`` is split at commas, and double quotes and
backslashes in it are eaten; a variable whose name ends in ``)`` is a function write. So nothing of
that kind is ever written: ``serialize`` refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backend.errors import AsteriskError, BadRequest

MAX_LINE = 1022  # bytes, without CR LF
MAX_HEADERS = 128
MAX_MESSAGE = 1 << 20  # bytes; Asterisk's own are a few kB
MAX_LIST = 100_000  # events in the answer of one action

_END = b"\r\n\r\n"
_GREETING = "Asterisk Call Manager/"
_EVENT = "Event: "  # an event's first line, always (main/manager.c)
_ACTION_ID = "\r\nActionID: "
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# An Originate with one of these runs any application, a shell among them; MixMonitor's is a shell.
_NEVER = {"originate": frozenset({"application", "data"}), "mixmonitor": frozenset({"command"})}

Headers = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class Message:
    """An event or a response. ``headers`` as Asterisk wrote them; one that came more than once
    is a list. A line without a colon stands under the empty name."""

    headers: Mapping[str, str | list[str]]

    def get(self, name: str) -> str | None:
        """A header, whatever the case of its name (``Cdr`` writes UniqueID, others Uniqueid);
        of repeated ones the last; None when it is not there."""
        value = self.headers.get(name)
        if value is None:
            value = self._in_other_case(name)
        return value[-1] if isinstance(value, list) else value

    def _in_other_case(self, name: str) -> str | list[str] | None:
        wanted = name.lower()
        return next((v for k, v in self.headers.items() if k.lower() == wanted), None)

    @property
    def event(self) -> str | None:
        """The event's name; None for a response."""
        return self.get("Event")

    def flat(self) -> dict[str, str]:
        """Headers with repeated ones joined by LF (``Output`` of a command)."""
        return {k: "\n".join(v) if isinstance(v, list) else v for k, v in self.headers.items()}


class MessageReader:
    """Bytes in any segmentation → whole messages. Not thread-safe.

    ``wanted``: the events that are taken; others are passed over unread, unless they bear an
    ActionID (the answer to an action). None: all.
    """

    def __init__(self, wanted: Collection[str] | None = None) -> None:
        self._wanted = wanted
        self.version: str | None = None
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes, in order.

        Bytes that are not UTF-8 become U+FFFD, and so does NUL (PostgreSQL's jsonb refuses it).
        Raises AsteriskError when the peer is no AMI server or a message never ends.
        """
        self._rest += data
        if self.version is None and not self._read_greeting():
            return []
        end = self._rest.rfind(_END, max(0, len(self._rest) - len(data) - len(_END)))
        if end < 0:
            if len(self._rest) > MAX_MESSAGE:
                raise AsteriskError(f"an AMI message is longer than {MAX_MESSAGE} bytes")
            return []
        whole = bytes(self._rest[:end])
        del self._rest[: end + len(_END)]
        text = whole.decode("utf-8", "replace").replace("\0", "\ufffd")
        blocks = text.split("\r\n\r\n")
        return [parse(block) for block in blocks if block.strip() and self._takes(block)]

    def _takes(self, block: str) -> bool:
        if self._wanted is None or not block.startswith(_EVENT):
            return True
        name = block[len(_EVENT) : block.find("\r\n")]
        return name in self._wanted or _ACTION_ID in block

    def _read_greeting(self) -> bool:
        line, found, _ = bytes(self._rest[:256]).partition(b"\r\n")
        text = line.decode("utf-8", "replace")
        if not found:
            if len(self._rest) >= 256 or not _GREETING.startswith(text[: len(_GREETING)]):
                raise AsteriskError(f"no AMI server: its first bytes are {text[:60]!a}")
            return False
        if not text.startswith(_GREETING):
            raise AsteriskError(f"no AMI server: its first line is {text[:60]!a}")
        self.version = text.removeprefix(_GREETING).strip()
        del self._rest[: len(line) + 2]
        return True


def parse(block: str) -> Message:
    """The message of one block of header lines."""
    headers: dict[str, str | list[str]] = {}
    for line in block.split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            if not line:
                continue
            name, value = "", line
        elif value.startswith(" "):
            value = value[1:]
        known = headers.get(name)
        if known is None:
            headers[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            headers[name] = [known, value]
    return Message(headers)


class Answer:
    """Collects the whole answer to one action: its response, and the list when it starts one."""

    def __init__(self) -> None:
        self.response: Message | None = None
        self.events: list[Message] = []

    def takes(self, message: Message) -> bool:
        """Whether ``message``, which bears the action's id, belongs to the answer.

        OriginateResponse bears it too, and is none: it is broadcast to everybody, and comes when
        the call is over or answered.
        """
        return message.event is None if self.response is None else message.event is not None

    def add(self, message: Message) -> bool:
        """True when the answer is complete. Raises AsteriskError when the list has no end."""
        if self.response is None:
            self.response = message
            return (message.get("EventList") or "").lower() != "start"
        if (message.get("EventList") or "").lower() in ("complete", "cancelled"):
            return True
        self.events.append(message)
        if len(self.events) > MAX_LIST:
            raise AsteriskError(f"the list that answers an action is longer than {MAX_LIST}")
        return False


def serialize(name: str, headers: Headers, action_id: str) -> bytes:
    """The action as bytes, the only way in which this backend writes to AMI.

    A header whose value is a list is written once per item. Items of ``Variable`` are NAME=value.
    Raises BadRequest that names the header; the message never holds the value.
    """
    if not _NAME.fullmatch(name):
        raise BadRequest("Action", "is no name of an action")
    lines = [f"Action: {name}".encode(), _line("ActionID", action_id)]
    never = _NEVER.get(name.lower(), frozenset())
    lines.extend(_line(header, value) for header, value in _flat(headers, never))
    if len(lines) > MAX_HEADERS:
        raise BadRequest("headers", f"are {len(lines)}; Asterisk reads {MAX_HEADERS}")
    return b"\r\n".join(lines) + _END


def _flat(headers: Headers, never: frozenset[str]) -> Iterator[tuple[str, str]]:
    for header, value in headers.items():
        if not _HEADER.fullmatch(header):
            raise BadRequest("headers", f"{header[:60]!a} is no name of a header")
        if header.lower() in never or header.lower() in ("action", "actionid"):
            raise BadRequest(header, "is not for callers to set")
        for item in (value,) if isinstance(value, str) else value:
            if header.lower() == "variable":
                _check_variable(header, item)
            yield header, item


def _check_variable(header: str, item: str) -> None:
    name, sign, value = item.partition("=")
    if not _VARIABLE.fullmatch(name):
        raise BadRequest(header, f"{name[:60]!a} is no plain name of a variable")
    if not sign:
        raise BadRequest(header, f"{name} has no value; expected NAME=value")
    for bad in (",", '"', "\\"):
        if bad in value:
            raise BadRequest(
                header, f"{name} holds {bad!r}, which Asterisk would not take as it is"
            )


def _line(header: str, value: str) -> bytes:
    if _CONTROL.search(value):
        raise BadRequest(header, "holds a control character (CR, LF, NUL …)")
    try:
        line = f"{header}: {value}".encode()
    except UnicodeEncodeError:
        raise BadRequest(header, "is not valid Unicode") from None
    if len(line) > MAX_LINE:
        raise BadRequest(header, f"makes a line of {len(line)} bytes; Asterisk reads {MAX_LINE}")
    return line
