"""AGI lines: the environment, commands and replies as text. Pure: no socket, no clock.

Sources: Asterisk's res/res_agi.c (ast_agi_send, agi_handle_command, launch_netscript) and its
``agi show commands``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from backend.errors import BadRequest

MAX_LINE_BYTES = 2048  # Asterisk's own limit for a command line until July 2025
MAX_ENV_LINES = 100
MAX_REPLY_BYTES = 64 * 1024

HANGUP_LINE = "HANGUP"
TRYING_CODE = 100
OK_CODE = 200
INVALID_COMMAND_CODE = 510
DEAD_CHANNEL_CODE = 511
USAGE_CODE = 520

_REPLY = re.compile(r"(\d{3})([ -])(.*)", re.DOTALL)
_RESULT = re.compile(r"result=(\S*)\s*(.*)", re.DOTALL)
_EXTRA = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A command's answer: ``200 result=<result> (<data>) key=value …``.

    ``text`` is what follows the code, for errors a sentence of Asterisk's.
    """

    code: int
    text: str
    result: str = ""
    data: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def quote(value: object) -> str:
    """One argument as Asterisk's parse_args reads it: in double quotes, ``"`` and ``\\`` escaped.

    Raises BadRequest for a line break or NUL, which no quoting carries over the wire.
    """
    text = str(value)
    if bad := re.search(r"[\r\n\0]", text):
        raise BadRequest("AGI argument", f"holds {bad[0]!r}: {text[:80]!r}")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def command_line(command: str, *arguments: object) -> bytes:
    """``COMMAND "a" "b"\\n``. The command itself is ours, the arguments may be anything.

    Raises BadRequest when an argument cannot be sent or the line is over Asterisk's limit.
    """
    if not re.fullmatch(r"[A-Za-z]+( [A-Za-z]+)*", command):
        raise BadRequest("AGI command", f"{command[:80]!r} is not words")
    line = " ".join([command, *map(quote, arguments)]).encode("utf-8") + b"\n"
    if len(line) >= MAX_LINE_BYTES:
        raise BadRequest(command, f"{len(line)} bytes; Asterisk takes {MAX_LINE_BYTES - 1}")
    return line


def parse_environment_line(line: str) -> tuple[str, str]:
    """``agi_channel: PJSIP/x`` → ("agi_channel", "PJSIP/x"). The value is not to be trusted.

    Raises BadRequest when it is not of that form.
    """
    key, colon, value = line.partition(":")
    if not colon or not re.fullmatch(r"agi_\w{1,64}", key):
        raise BadRequest("AGI environment", f"expected 'agi_name: value', got {line[:80]!r}")
    return key, value.strip()


def continues(lines: list[str]) -> bool:
    """Whether the reply that begins with ``lines`` has further lines.

    Asterisk wraps two things over lines: a variable's value with line breaks, in brackets, and
    the usage text of a 520. A value whose own line ends in ``)`` cannot be told from its end;
    the connection drops what is left over before its next command.
    """
    first = lines[0]
    if first.startswith(f"{USAGE_CODE}-"):
        return not (len(lines) > 1 and lines[-1].startswith(f"{USAGE_CODE} "))
    if first.startswith(f"{OK_CODE} result=1 ("):
        return not lines[-1].endswith(")")
    return False


def parse_reply(lines: list[str]) -> Reply:
    """A whole reply. Raises BadRequest when it is none."""
    text = "\n".join(lines)
    match = _REPLY.fullmatch(text)
    if match is None:
        raise BadRequest("AGI reply", f"expected a code and a text, got {text[:80]!r}")
    code, rest = int(match[1]), match[3]
    found = _RESULT.fullmatch(rest) if code == OK_CODE else None
    if found is None:
        return Reply(code, rest)
    result, tail = found[1], found[2]
    data = None
    if tail.startswith("("):
        inside, _, tail = tail[1:].rpartition(")")
        data = inside
    return Reply(code, rest, result, data, dict(_EXTRA.findall(tail)))
