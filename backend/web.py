"""The HTTP door: Flask app factory and routes. Contract: docs/http.md, http_api.py.

No state: all is in PostgreSQL, reached through the protocols below.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from pathlib import Path
from time import monotonic
from typing import Any, Protocol
from urllib.parse import quote
from uuid import UUID

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from backend.dialing.policy import Rules, admit
from backend.errors import BadRequest, StorageUnavailable
from backend.http_api import (
    DEFAULT_PAGE,
    MAX_BODY_BYTES,
    MAX_IDS,
    MAX_PAGE,
    OUTBOUND_NAMES,
    accepted,
    problem,
    task_answer,
)
from backend.http_docs import page
from backend.http_figures import Figures, Overview, health
from backend.http_openapi import openapi
from backend.model import Task, TaskRequest
from backend.web_flows import FlowDesk, add_flows
from backend.web_recordings import add_recordings
from backend.web_routing import RouteList, add_routing
from backend.web_wire import Refused, json_answer, json_body, number_of, query, uuid_of

log = logging.getLogger(__name__)
access_log = logging.getLogger("backend.web.access")

RETRY_AFTER_S = 5
MAX_CURSOR = 2**63 - 1
OPEN_PATHS = ("/health",)  # answered without a token, with less in it


class TaskBook(Protocol):
    """What the routes need of the tasks: storage.tasks.Tasks."""

    def submit(self, request: TaskRequest) -> tuple[Task, bool]: ...
    def get(self, task_id: UUID) -> Task | None: ...
    def get_many(self, task_ids: Sequence[UUID]) -> list[Task]: ...
    def changed_since(self, cursor: int, limit: int) -> tuple[list[Task], int]: ...


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in, and what may be asked. ``clients``: name → token; ``admins``: those that
    may change routes and flows, none named: all."""

    rules: Rules
    clients: Mapping[str, str] = field(repr=False)
    token_in_query: bool = False
    node: str = ""
    admins: tuple[str, ...] = ()
    recordings: Path = Path("/var/spool/asterisk/monitor")
    recordings_url: str = "/recordings"
    version: str = "0.1.0"

    def recording_url(self, path: str | None) -> str | None:
        """Where the recording at ``path`` can be fetched; None: it is not in the folder."""
        folder = f"{self.recordings}/"
        if path is None or not path.startswith(folder):
            return None
        return f"{self.recordings_url.rstrip('/')}/{quote(path.removeprefix(folder))}"


def create_app(
    door: Door, tasks: TaskBook, overview: Overview, routes: RouteList, flows: FlowDesk
) -> Flask:
    """The WSGI application."""
    app = Flask("asterisk-dialog", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    figures = Figures(overview)
    app.before_request(lambda: _authenticate(door))
    app.after_request(lambda response: _finish(response, figures))
    _dial_routes(app, door, tasks)
    _task_routes(app, door, tasks)
    add_routing(app, routes, door.rules, door.admins)
    add_flows(app, flows, door.rules, door.admins)
    add_recordings(app, door.recordings)
    _operator_routes(app, door, overview, figures)
    _error_answers(app)
    return app


# --- Routes --------------------------------------------------------------------------------------


def _dial_routes(app: Flask, door: Door, tasks: TaskBook) -> None:
    def answer(params: Mapping[str, object], status: int) -> Response:
        task, created = tasks.submit(admit(params, door.rules))
        response = json_answer(accepted(task), status)
        response.headers["Idempotent-Replayed"] = "false" if created else "true"
        return response

    @app.get("/originate")
    def originate() -> Response:
        if request.method == "HEAD":  # Flask takes HEAD for a GET; it must not dial
            return json_answer(problem("method_not_allowed", "HEAD does not dial; use GET"), 405)
        return answer(query(), 200)

    @app.post("/outbound-calls")
    def outbound_calls() -> Response:
        query(known=())
        given = json_body(OUTBOUND_NAMES)
        params = {OUTBOUND_NAMES[name]: value for name, value in given.items()}
        try:
            return answer(params, 202)
        except BadRequest as error:
            names = {ours: theirs for theirs, ours in OUTBOUND_NAMES.items()}
            raise BadRequest(names.get(error.parameter, error.parameter), error.why) from None


def _task_routes(app: Flask, door: Door, tasks: TaskBook) -> None:
    def answer(task: Task) -> dict[str, Any]:
        return task_answer(task, door.recording_url(task.recording))

    @app.get("/tasks/<task_id>")
    def one_task(task_id: str) -> Response:
        query(known=())
        task = tasks.get(uuid_of("id", task_id))
        if task is None:
            return json_answer(problem("not_found", "there is no such task", "id"), 404)
        return json_answer(answer(task))

    @app.get("/tasks")
    def many_tasks() -> Response:
        params = query(known=("ids", "changed_since", "limit"))
        if "ids" in params and "changed_since" in params:
            raise BadRequest("changed_since", "ask either for ids or for changed_since")
        if "ids" in params:
            found, more = _by_ids(tasks, params)
        elif "changed_since" in params:
            found, more = _changes(tasks, params)
        else:
            raise BadRequest("changed_since", "is missing, and ids too: which tasks?")
        return json_answer({"tasks": [answer(task) for task in found], **more})


def _operator_routes(app: Flask, door: Door, overview: Overview, figures: Figures) -> None:
    api = openapi(door.version)
    html = page(api)

    @app.get("/health")
    def get_health() -> Response:
        found = health(overview, door.node)
        if g.client is None:
            found = found.model_copy(update={"parts": None})
        status = 200 if found.status == "ok" else 503
        return json_answer(found.model_dump(mode="json", exclude_none=True), status)

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(figures.text(), content_type=figures.CONTENT_TYPE)

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return json_answer(api)

    @app.get("/docs")
    def docs() -> Response:
        return Response(html, content_type="text/html; charset=utf-8")


_Found = tuple[Sequence[Task], dict[str, Any]]  # and what stands beside them in the answer


def _by_ids(tasks: TaskBook, params: Mapping[str, object]) -> _Found:
    text = params["ids"]
    if not isinstance(text, str):
        raise BadRequest("ids", "is given more than once; separate the ids by commas")
    ids = [uuid_of("ids", part.strip()) for part in text.split(",")]
    if len(ids) > MAX_IDS:
        raise BadRequest("ids", f"are {len(ids)}; at most {MAX_IDS} at a time")
    if "limit" in params:
        raise BadRequest("limit", "goes with changed_since, not with ids")
    found = tasks.get_many(ids)
    known = {task.id for task in found}
    unknown = [str(one) for one in dict.fromkeys(ids) if one not in known]
    return found, {"unknown": unknown}


def _changes(tasks: TaskBook, params: Mapping[str, object]) -> _Found:
    cursor = number_of(params, "changed_since", 0, MAX_CURSOR, 0)
    limit = number_of(params, "limit", 1, MAX_PAGE, DEFAULT_PAGE)
    found, after = tasks.changed_since(cursor, limit)
    return found, {"cursor": after, "more": len(found) == limit}


# --- Who asks ------------------------------------------------------------------------------------


def _authenticate(door: Door) -> Response | None:
    g.began = monotonic()
    g.token_in_query = door.token_in_query
    g.client = _client(door)
    if g.client is not None or request.path in OPEN_PATHS:
        return None
    response = json_answer(
        problem("unauthorized", "a token is needed: Authorization: Bearer …, or Basic"), 401
    )
    response.headers["WWW-Authenticate"] = 'Basic realm="asterisk-dialog", charset="UTF-8"'
    return response


def _client(door: Door) -> str | None:
    """The name of the client whose token came with the request."""
    auth = request.authorization
    if auth is not None and auth.type == "basic":
        name, token = auth.username or "", auth.password or ""
        known = door.clients.get(name, "")
        return name if known and _same(token, known) else None
    if auth is not None and auth.type == "bearer":
        return _owner(door, auth.token or "")
    if auth is None and door.token_in_query and len(request.args.getlist("token")) == 1:
        return _owner(door, request.args["token"])
    return None


def _owner(door: Door, token: str) -> str | None:
    found = None
    for name, known in door.clients.items():  # all of them: the time tells nothing
        if known and _same(token, known):
            found = name
    return found


def _same(given: str, known: str) -> bool:
    return compare_digest(given.encode("utf-8", "replace"), known.encode("utf-8"))


# --- Answers -------------------------------------------------------------------------------------


def _error_answers(app: Flask) -> None:
    answers: dict[type[Exception], Callable[[Any], Response]] = {
        BadRequest: lambda e: json_answer(problem("bad_request", e.why, e.parameter), 400),
        Refused: lambda e: json_answer(problem(e.code, e.why), e.status),
        StorageUnavailable: _storage_away,
        HTTPException: _http_error,
        Exception: _our_mistake,
    }
    for kind, answer in answers.items():
        app.register_error_handler(kind, answer)


def _storage_away(error: StorageUnavailable) -> Response:
    log.error("a request was answered 503: %s", error)
    response = json_answer(
        problem("unavailable", "PostgreSQL cannot be reached; try again, with an external_id"), 503
    )
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def _http_error(error: HTTPException) -> Response:
    status = error.code or 500
    whys = {404: "there is no such address", 413: f"at most {request.max_content_length} bytes"}
    why = whys.get(status) or (error.description or error.name)
    response = json_answer(problem(error.name.lower().replace(" ", "_"), why), status)
    if status == 405 and (methods := getattr(error, "valid_methods", None)):
        response.headers["Allow"] = ", ".join(methods)
    return response


def _our_mistake(error: Exception) -> Response:
    log.error("a request failed by a mistake in this program", exc_info=error)
    return json_answer(problem("internal", "a mistake in this program; see its log"), 500)


def _finish(response: Response, figures: Figures) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    took_s = monotonic() - g.began
    route = request.url_rule.rule if request.url_rule else "none"
    figures.answered(request.method, route, response.status_code, took_s)
    # A poll that went well is no news; what made a call, or was refused, is.
    polled = request.method == "GET" and route != "/originate" and response.status_code < 400
    access_log.log(  # the path only: the query may hold a token and a number
        logging.DEBUG if polled else logging.INFO,
        "%s %s %d %.0f ms client=%s from=%s",
        request.method,
        ascii(request.path)[1:-1][:200],
        response.status_code,
        took_s * 1000,
        g.client or "-",
        request.remote_addr,
    )
    return response
