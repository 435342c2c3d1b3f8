"""The command line's way to the backend on this machine: its HTTP door."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from backend.config import Settings
from backend.errors import DialogError

TIMEOUT_S = 30.0


class Answered(DialogError):
    """The backend refused. ``error``: the body's, see http_api.Problem; empty: it was none."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.error: dict[str, Any] = {}
        try:
            found = json.loads(body)["error"]
        except (ValueError, LookupError, TypeError):
            return
        self.error = found if isinstance(found, dict) else {}


def ask(settings: Settings, path: str, method: str = "GET", body: object = None) -> dict[str, Any]:
    """A request to the backend on this machine, with a token that may change routes and flows, if
    one is named, else the first. Raises DialogError."""
    names = [*settings.http_admins, *settings.http_tokens]
    token = settings.http_tokens[names[0]].get_secret_value() if names else ""
    request = urllib.request.Request(
        f"http://{settings.http_host}:{settings.http_port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise Answered(error.code, error.read().decode(errors="replace").strip()) from None
    except urllib.error.URLError as error:
        where = f"{settings.http_host}:{settings.http_port}"
        raise DialogError(f"no backend answers at {where}: {error.reason}") from None
