"""The HTTP door's /routes: number → scenario, listed, asked and changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from flask import Flask, Response

from backend.dialing.policy import Rules, known_scenario
from backend.dialing.routing import (
    Direction,
    Route,
    RouteTable,
    check_direction,
    check_pattern,
)
from backend.errors import BadRequest
from backend.http_api import ROUTE_FIELDS, problem, route_answer
from backend.web_wire import json_answer, json_body, query, refuse_others

_NUMBER = re.compile(r"[0-9A-Za-z+#*.@_-]{1,64}")


class RouteList(Protocol):
    """storage.routes.Routes. All raise StorageUnavailable."""

    def all(self) -> Sequence[Route]: ...
    def put(self, pattern: str, direction: Direction, scenario: str) -> Route: ...
    def remove(self, pattern: str, direction: Direction) -> Route | None: ...


def add_routing(app: Flask, routes: RouteList, rules: Rules, admins: Collection[str]) -> None:
    """Add GET, PUT and DELETE /routes. ``admins``: who may change routes, none named: all."""

    @app.get("/routes")
    def list_routes() -> Response:
        params = _texts(query(known=("number", "direction")))
        found = routes.all()
        if "number" in params:
            direction = check_direction(params.get("direction", "inbound"))
            found = RouteTable(found).fitting(_number(params["number"]), direction)
        elif "direction" in params:
            direction = check_direction(params["direction"])
            found = [route for route in found if route.direction == direction]
        return json_answer({"routes": [route_answer(route) for route in found]})

    @app.put("/routes")
    def put_route() -> Response:
        query(known=())
        refuse_others(admins, "routes")
        params = _texts(json_body(ROUTE_FIELDS))
        pattern = check_pattern(_required(params, "pattern"))
        direction = check_direction(params.get("direction", "inbound"))
        scenario = known_scenario(_required(params, "scenario"), rules)
        return json_answer(route_answer(routes.put(pattern, direction, scenario)))

    @app.delete("/routes")
    def delete_route() -> Response:
        params = _texts(query(known=("pattern", "direction")))
        refuse_others(admins, "routes")
        direction = check_direction(params.get("direction", "inbound"))
        found = routes.remove(_storable(_required(params, "pattern")), direction)
        if found is None:
            return json_answer(problem("not_found", "there is no such route", "pattern"), 404)
        return json_answer(route_answer(found))


def _texts(params: dict[str, object]) -> dict[str, str]:
    texts = {}
    for name, value in params.items():
        if isinstance(value, list):
            raise BadRequest(name, "is given more than once")
        if not isinstance(value, str):
            raise BadRequest(name, f"must be text, not {type(value).__name__}")
        texts[name] = value
    return texts


def _required(params: dict[str, str], name: str) -> str:
    if name not in params:
        raise BadRequest(name, "is missing")
    return params[name]


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        hint = " (in a URL a plus is written %2B)" if text.startswith(" ") else ""
        raise BadRequest("number", f"{text[:60]!a} is no number{hint}")
    return text


def _storable(pattern: str) -> str:
    """Also one that is no pattern but was written by SQL can be removed."""
    if not pattern.isprintable() or len(pattern) > 1000:
        raise BadRequest("pattern", f"{pattern[:60]!a} is no pattern")
    return pattern
