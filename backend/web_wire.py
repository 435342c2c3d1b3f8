"""Requests in, answers out: what all routes of the HTTP door have alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import parse_qsl
from uuid import UUID

from flask import Response, g, request

from backend.errors import BadRequest, DialogError

MAX_QUERY_BYTES = 8000
MAX_QUERY_FIELDS = 64


class Refused(DialogError):
    """A request that is refused with a status of its own."""

    def __init__(self, status: int, code: str, why: str) -> None:
        super().__init__(why)
        self.status, self.code, self.why = status, code, why


def query(known: Sequence[str] | None = None) -> dict[str, object]:
    """The parameters of the query string; one that is repeated is a list.

    Bytes that are no UTF-8 stay as lone surrogates, which the door refuses by name: Flask would
    replace them, and two external ids could become one. ``known``: other names are refused.
    """
    raw = request.query_string
    if len(raw) > MAX_QUERY_BYTES:
        raise BadRequest("query", f"is too long: at most {MAX_QUERY_BYTES} bytes")
    try:
        pairs = parse_qsl(
            raw.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError:
        raise BadRequest("query", f"has more than {MAX_QUERY_FIELDS} parameters") from None
    params: dict[str, object] = {}
    for name, value in pairs:
        if name == "token" and g.token_in_query:
            continue
        before = params.get(name)
        more = [*before, value] if isinstance(before, list) else [before, value]
        params[name] = value if name not in params else more
    if known is not None:
        for name in params:
            if name not in known:
                text = f"known: {', '.join(known)}" if known else "this address takes none"
                raise BadRequest(ascii(name)[1:-1][:64], f"there is no such parameter; {text}")
    return params


def json_body(known: Collection[str]) -> dict[str, object]:
    """The fields of a JSON object; others than ``known``, and repeated ones, are refused. A field
    that is null counts as left out."""
    if not request.is_json:
        raise Refused(415, "unsupported_media_type", "send Content-Type: application/json")
    body = request.get_data()
    try:
        given = json.loads(body, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("body", f"is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(given, dict):
        raise BadRequest("body", "must be a JSON object")
    for name in given:
        if name not in known:
            shown = ascii(name)[1:-1][:64]
            text = f"there is no such parameter; known: {', '.join(known)}"
            raise BadRequest(shown, text)
    return {name: value for name, value in given.items() if value is not None}


def _no_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise BadRequest(ascii(name)[1:-1][:64], "is given more than once")
        found[name] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def refuse_others(admins: Collection[str], what: str) -> None:
    """Raises Refused for a client that may not change ``what``. No admins: everybody may."""
    if admins and g.client not in admins:
        why = f"this client may not change {what} (setting http_admins)"
        raise Refused(403, "forbidden", why)


def uuid_of(parameter: str, text: str) -> UUID:
    try:
        if len(text) in (32, 36):
            return UUID(text)
    except ValueError:
        pass
    raise BadRequest(parameter, f"{text[:60]!a} is no id of a task")


def number_of(params: Mapping[str, object], name: str, least: int, most: int, default: int) -> int:
    text = params.get(name, str(default))
    if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 20:
        number = int(text)
        if least <= number <= most:
            return number
    raise BadRequest(name, f"must be one whole number from {least} to {most}")


def json_answer(body: object, status: int = 200) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text + "\n", status, content_type="application/json; charset=utf-8")
