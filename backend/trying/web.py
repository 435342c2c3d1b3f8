"""The other systems that a tried flow asks: they answer as told, or are the real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backend.errors import BadRequest, HttpFailed
from backend.ports import HttpAnswer, HttpDoor, HttpRequest

_KEY = re.compile(r"(?:(GET|POST|PUT) )?(https?://\S*)")


class SimulatedHttp:
    """``answers``: by ``"GET http://1c/orders"``, or the address alone; the longest one that the
    request's address begins with counts. An answer: what JSON can say (status 200), a whole number
    (that status, and nothing else), "timeout", "away", or a list of these, one for each request,
    the last for all that come later. ``real``: asked where no answer is given.

    ``requests``: what came, in order."""

    def __init__(
        self, answers: Mapping[str, Any] | None = None, real: HttpDoor | None = None
    ) -> None:
        for key in answers or {}:
            if not _KEY.fullmatch(key):
                raise BadRequest("http", f"{key!r:.80}: expected 'GET http://host/path'")
        self._answers = dict(answers or {})
        self._real = real
        self.requests: list[HttpRequest] = []

    def send(self, request: HttpRequest) -> HttpAnswer:
        """ports.HttpDoor."""
        self.requests.append(request)
        fits = [key for key in self._answers if _fits(key, request)]
        if not fits:
            if self._real is None:
                raise BadRequest("url", f"{request.method} {request.url:.200}: no answer is given")
            return self._real.send(request)
        key = max(fits, key=len)
        answer = self._answers[key]
        if isinstance(answer, list) and answer:
            answer = answer[0]
            if len(self._answers[key]) > 1:
                self._answers[key] = self._answers[key][1:]
        return _answered(answer, request)


def _fits(key: str, request: HttpRequest) -> bool:
    found = _KEY.fullmatch(key)
    assert found is not None
    return found[1] in (None, request.method) and request.url.startswith(found[2])


def _answered(answer: Any, request: HttpRequest) -> HttpAnswer:
    what = f"{request.method} {request.url.partition('?')[0]}"
    if answer == "timeout":
        raise HttpFailed(f"{what}: no answer within {request.timeout_s:g} s", timeout=True)
    if answer == "away":
        raise HttpFailed(f"{what}: ConnectionRefusedError: nobody is there")
    if isinstance(answer, int) and not isinstance(answer, bool):
        return HttpAnswer(answer)
    return HttpAnswer(200, json.dumps(answer, ensure_ascii=False).encode())
