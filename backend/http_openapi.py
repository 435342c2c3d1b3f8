"""The HTTP contract for programs: the OpenAPI 3.1 description. No Flask, no storage."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from backend.http_api import (
    DEFAULT_PAGE,
    MAX_IDS,
    MAX_PAGE,
    OUTBOUND_NAMES,
    ROUTE_FIELDS,
    Accepted,
    ErrorAnswer,
    Health,
    RouteAnswer,
    RouteAnswers,
    TaskAnswer,
    TaskChanges,
    TaskList,
)
from backend.http_flows import ACTIONS, FLOW_MODELS, ORDER_FIELDS, PUT_FIELDS

_MODELS: tuple[type[BaseModel], ...] = (
    Accepted,
    TaskAnswer,
    TaskList,
    TaskChanges,
    RouteAnswer,
    RouteAnswers,
    Health,
    ErrorAnswer,
    *FLOW_MODELS,
)

_DIAL_PARAMETERS: tuple[tuple[str, str], ...] = (
    ("phone", "The number: 3 to 15 digits, a plus before them if any (in a URL: %2B)."),
    ("file", "The sound the scenario plays first: relative to Asterisk's sounds, no extension."),
    ("scenario", "Name of the scenario; default: by the number's route, or default_scenario."),
    ("context", "Dialplan context, one of the setting contexts; default: the first."),
    ("channel", "Name of the trunk, one of the setting channels; default: 'default'."),
    ("caller_id", "Caller id, one of the setting caller_ids; default: setting caller_id."),
    ("external_id", "Your key, up to 128 bytes: the same key is the same task, for ever."),
    ("timeout", "How long it may ring, seconds, 1 to 300; default: setting dial_timeout_s."),
)


def openapi(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 description."""
    _, schemas = models_json_schema(
        [(model, "serialization") for model in _MODELS],
        ref_template="#/components/schemas/{model}",
    )
    secured: list[dict[str, list[str]]] = [{"bearer": []}, {"basic": []}, {"query": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "asterisk-dialog",
            "version": version,
            "description": "Calls to make, and what became of them.",
        },
        "security": secured,
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"]
            | {
                "OutboundCall": _outbound_schema(),
                "NewRoute": _route_schema(),
                "NewFlow": _new_flow_schema(),
                "FlowOrder": _flow_order_schema(),
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "user: the client's name; password: its token",
                },
                "query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "only where the setting http_token_in_query allows it",
                },
            },
        },
    }


def _paths() -> dict[str, Any]:
    return {
        "/originate": {"get": _originate()},
        "/outbound-calls": {"post": _outbound()},
        "/tasks/{id}": {"get": _one_task()},
        "/tasks": {"get": _many_tasks()},
        "/routes": {"get": _list_routes(), "put": _put_route(), "delete": _delete_route()},
        "/flows": {"get": _list_flows(), "put": _put_flow()},
        "/flows/{name}": {"get": _one_flow(), "post": _order_flow()},
        "/flows/{name}/versions/{version}": {"get": _flow_text()},
        "/recordings/{path}": {"get": _recording()},
        "/health": {
            "get": {
                "summary": "Whether calls can be made; the parts only with a token.",
                "security": [{}, {"bearer": []}, {"basic": []}],
                "responses": {
                    "200": _answer("Health", "all parts work"),
                    "503": _answer("Health", "a part does not"),
                },
            }
        },
        "/metrics": {"get": _plain("Figures for Prometheus.", "text/plain")},
        "/openapi.json": {"get": _plain("This description.", "application/json")},
        "/docs": {"get": _plain("This description for people.", "text/html")},
    }


def _originate() -> dict[str, Any]:
    parameters = [_query(name, text, name == "phone") for name, text in _DIAL_PARAMETERS]
    parameters.append(
        _query("var_NAME", "Channel variable NAME, one of the setting variables; repeatable.")
    )
    return {
        "summary": "Make a call. Safe to repeat with the same external_id.",
        "parameters": parameters,
        "responses": _responses(_accepted("200")),
    }


def _outbound() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/OutboundCall"}
    return {
        "summary": "Make a call (JSON). The same as /originate under other names.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses(
            _accepted("202"),
            **{"413": "too large", "415": "not application/json"},
        ),
    }


def _one_task() -> dict[str, Any]:
    return {
        "summary": "One task.",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "responses": _responses({"200": _answer("TaskAnswer", "the task")}, **{"404": "no task"}),
    }


def _many_tasks() -> dict[str, Any]:
    one = {"$ref": "#/components/schemas/TaskList"}
    other = {"$ref": "#/components/schemas/TaskChanges"}
    return {
        "summary": "Several tasks (ids), or those that changed (changed_since).",
        "parameters": [
            _query("ids", f"Ids, comma separated, at most {MAX_IDS}."),
            _query("changed_since", "The cursor of the last answer; 0: from the beginning."),
            _query("limit", f"With changed_since: 1 to {MAX_PAGE}, default {DEFAULT_PAGE}."),
        ],
        "responses": _responses(
            {
                "200": {
                    "description": "the tasks",
                    "content": {"application/json": {"schema": {"oneOf": [one, other]}}},
                }
            }
        ),
    }


def _recording() -> dict[str, Any]:
    return {
        "summary": "A recording: WAV. Ranges are answered.",
        "parameters": [
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "Below recordings_dir, as in recording.url.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            "200": {"description": "the file", "content": {"audio/wav": {}}},
            "206": {"description": "the range of it that was asked for"},
            "401": _answer("ErrorAnswer", "no token, or a wrong one"),
            "404": _answer("ErrorAnswer", "no such recording on this machine"),
            "416": _answer("ErrorAnswer", "there is no such range"),
        },
    }


_DIRECTION = "inbound (default) or outbound."


def _list_routes() -> dict[str, Any]:
    return {
        "summary": "The routes, or those that fit a number.",
        "parameters": [
            _query("number", "Only those that fit it, the one that counts first."),
            _query("direction", "Only inbound or outbound; with number: inbound if left out."),
        ],
        "responses": _responses({"200": _answer("RouteAnswers", "the routes")}),
    }


def _put_route() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/NewRoute"}
    return {
        "summary": "Add a route or change its scenario. Calls that begin now go by it.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses(
            {"200": _answer("RouteAnswer", "as it is now")},
            **{"403": _NOT_ADMIN, "415": "not application/json"},
        ),
    }


def _delete_route() -> dict[str, Any]:
    return {
        "summary": "Remove a route.",
        "parameters": [
            _query("pattern", "As it is written in the route.", required=True),
            _query("direction", _DIRECTION),
        ],
        "responses": _responses(
            {"200": _answer("RouteAnswer", "as it was")},
            **{"403": _NOT_ADMIN, "404": "no such route"},
        ),
    }


_NOT_ADMIN = "this client may not change routes and flows (setting http_admins)"


def _route_schema() -> dict[str, Any]:
    texts = {
        "pattern": "A number, a beginning and '*', or '_' and a pattern as in Asterisk's dialplan.",
        "scenario": "Name of a scenario.",
        "direction": _DIRECTION,
    }
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": texts[name]} for name in ROUTE_FIELDS
        },
        "required": ["pattern", "scenario"],
        "additionalProperties": False,
    }


def _list_flows() -> dict[str, Any]:
    return {
        "summary": "The published flows: who gets which version.",
        "responses": _responses({"200": _answer("RolloutAnswers", "the flows, by name")}),
    }


def _put_flow() -> dict[str, Any]:
    answers = _responses(
        {"200": _answer("FlowAnswer", "it is the candidate; no call gets it yet")},
        **{"403": _NOT_ADMIN, "413": "too large", "415": "not application/json"},
    )
    answers["400"] = _answer("FlowErrorAnswer", "all that is wrong, with lines and nodes")
    return {
        "summary": "Hand in a version of a flow. One that cannot be used is refused.",
        "requestBody": _json_of("NewFlow"),
        "responses": answers,
    }


def _one_flow() -> dict[str, Any]:
    return {
        "summary": "A flow: its versions, their figures, who did what.",
        "parameters": [_path("name")],
        "responses": _responses({"200": _answer("FlowAnswer", "the flow")}, **{"404": _NO_FLOW}),
    }


def _order_flow() -> dict[str, Any]:
    return {
        "summary": "A step of the roll-out. Calls that begin now go by it.",
        "parameters": [_path("name")],
        "requestBody": _json_of("FlowOrder"),
        "responses": _responses(
            {"200": _answer("FlowAnswer", "as it is now")},
            **{"403": _NOT_ADMIN, "404": _NO_FLOW, "415": "not application/json"},
        ),
    }


def _flow_text() -> dict[str, Any]:
    return {
        "summary": "The text of a version.",
        "parameters": [_path("name"), _path("version")],
        "responses": _responses({"200": _answer("FlowText", "it")}, **{"404": "no such version"}),
    }


_NO_FLOW = "no flow of that name was published"


def _new_flow_schema() -> dict[str, Any]:
    texts = {
        "text": "The flow's file. Its name and version come from it.",
        "format": "yaml (default) or json.",
        "note": "A line for the history.",
    }
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": texts[name]} for name in PUT_FIELDS},
        "required": ["text"],
        "additionalProperties": False,
    }


def _flow_order_schema() -> dict[str, Any]:
    names = {"type": "array", "items": {"type": "string"}}
    limit = "test, share, all: the new limit; left out: as it was."
    known: dict[str, dict[str, Any]] = {
        "action": {"type": "string", "enum": list(ACTIONS)},
        "numbers": {**names, "description": "test: who gets it; left out: those of last time."},
        "percent": {"type": "number", "description": "share: more than 0, at most 100."},
        "nodes": {**names, "description": "pin: the machines."},
        "min_calls": {"type": "integer", "description": limit},
        "error_percent": {"type": "number", "description": limit},
        "loss_percent": {"type": "number", "description": limit},
        "version": {"type": "string", "description": "Refused unless this one is under way."},
        "reason": {"type": "string", "description": "A line for the history."},
    }
    return {
        "type": "object",
        "properties": {name: known[name] for name in ORDER_FIELDS},
        "required": ["action"],
        "additionalProperties": False,
    }


def _outbound_schema() -> dict[str, Any]:
    texts = dict(_DIAL_PARAMETERS)
    properties: dict[str, Any] = {
        name: {"type": "string", "description": texts[ours]}
        for name, ours in OUTBOUND_NAMES.items()
        if ours in texts
    }
    properties["timeout"]["type"] = "number"
    properties["variables"] = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Channel variables, names from the setting variables.",
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["destinationNumber"],
        "additionalProperties": False,
    }


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _json_of(schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"required": True, "content": content}


def _query(name: str, text: str, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": text,
        "schema": {"type": "string"},
    }


def _accepted(status: str) -> dict[str, Any]:
    answer = _answer("Accepted", "in the queue, or there already")
    answer["headers"] = {
        "Idempotent-Replayed": {
            "description": "true: the external_id was known; this is its task, unchanged",
            "schema": {"type": "string", "enum": ["true", "false"]},
        }
    }
    return {status: answer}


def _answer(model: str, text: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _responses(success: dict[str, Any], **others: str) -> dict[str, Any]:
    errors = {
        "400": "a parameter is wrong; error.parameter names it",
        "401": "no token, or a wrong one",
        **others,
        "503": "PostgreSQL is away; repeat after Retry-After seconds (external_id makes it safe)",
    }
    return success | {status: _answer("ErrorAnswer", text) for status, text in errors.items()}


def _plain(summary: str, kind: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "text", "content": {kind: {}}},
            "401": _answer("ErrorAnswer", "no token, or a wrong one"),
        },
    }
