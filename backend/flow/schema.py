"""The published JSON Schema, and what a document has against it in words. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from backend.errors import FlowProblem
from backend.flow.document import Document, Place

FILE = Path(__file__).with_name("schema.json")
MAX_SHOWN = 40
_NORWAY = {"yes", "no", "on", "off", "y", "n"}
_KINDS = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "fields with values",
    "array": "a list",
    "null": "nothing",
}


def text() -> str:
    """The schema as it is published."""
    return FILE.read_text(encoding="utf-8")


@cache
def _schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text())
    return found


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(_schema())


@cache
def node_fields() -> Mapping[str, frozenset[str]]:
    """The fields of each type of node."""
    found = {}
    for name, part in _schema()["$defs"].items():
        if name.startswith("node_"):
            found[name.removeprefix("node_")] = frozenset(part["properties"])
    return found


def near(wrong: object, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one is like it."""
    found = get_close_matches(str(wrong), list(known), 1, 0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def problems(document: Document) -> list[FlowProblem]:
    """All that is wrong, in the order of lines; empty: it fits."""
    found: dict[FlowProblem, None] = {}
    for error in _validator().iter_errors(document.value):
        for place, said in _explain(error):
            node = place[1] if len(place) > 1 and place[0] == "nodes" else None
            node_name = None if node is None else str(node)
            line = document.line(place)
            found[FlowProblem(document.source, line, node_name, said)] = None
    return sorted(found, key=lambda problem: problem.line)


def _explain(error: ValidationError) -> Iterator[tuple[Place, str]]:
    """Where, and what: one for each wrong field."""
    place: Place = tuple(error.absolute_path)
    value: Any = error.instance
    schema: Any = error.schema
    if error.validator == "additionalProperties":
        known = schema["properties"]
        for name in [name for name in value if name not in known]:
            yield (*place, name), _unknown(name, value, known)
    elif error.validator == "required":
        missing = [name for name in schema["required"] if name not in value]
        yield place, f"lacks {_list(missing)}"
    elif error.validator == "dependentRequired":
        yield place, error.message
    elif error.validator == "anyOf" and all("required" in part for part in schema["anyOf"]):
        wanted = (name for part in schema["anyOf"] for name in part["required"])
        yield place, f"lacks {' or '.join(map(repr, wanted))}"
    elif error.parent is None and isinstance(error.validator, str) and _is_key(error):
        yield (*place, str(value)), f"the key {str(value)!r:.60}: expected {_expected(schema)}"
    else:
        yield place, f"{_what(place)}: {_found(error)}"


def _is_key(error: ValidationError) -> bool:
    return "propertyNames" in error.absolute_schema_path


def _unknown(name: str, node: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """A field that is not there; perhaps another type of node has it."""
    said = f"unknown field {name!r}"
    if hint := near(name, known):
        return said + hint
    owners = sorted(kind for kind, fields in node_fields().items() if name in fields)
    if "type" in known and owners:
        said += f": not of {node.get('type')!r}, but of {_list(owners)}"
    return f"{said}; known: {', '.join(sorted(known))}"


def _what(place: Place) -> str:
    """The field's name, as an author calls it."""
    if not place:
        return "the file"
    inner = place[2:] if place[0] == "nodes" else place
    if not inner:
        return "the node"
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner]
    return "".join(parts).lstrip(".")


def _found(error: ValidationError) -> str:
    value: Any = error.instance
    schema: Any = error.schema
    said = f"expected {_expected(schema)}, found {_shown(value)}"
    if error.validator in ("enum", "const"):
        return said + near(value, (str(one) for one in schema.get("enum", ())))
    if isinstance(value, str) and value.lower() in _NORWAY and schema.get("type") == "boolean":
        return f"{said}; write true or false: yes, no, on, off are texts"
    if isinstance(value, bool | int | float) and _takes_text(schema):
        return f"{said}; put it in quotes"
    if value is None and _takes_text(schema):
        return f"{said}; a '#' that is not in quotes begins a comment"
    return said


def _takes_text(schema: Mapping[str, Any]) -> bool:
    inner = (_resolved(part) for part in schema.get("anyOf", ()))
    return schema.get("type") == "string" or any(_takes_text(part) for part in inner)


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    found: Mapping[str, Any] = _schema()["$defs"][name] if name else schema
    return found


def _expected(schema: Mapping[str, Any]) -> str:
    kind = _KINDS.get(str(schema.get("type")), "another value")
    said = kind if schema.get("type") == "boolean" else str(schema.get("description") or kind)
    if "enum" in schema:
        said = _list(schema["enum"], last=" or ")
    if "minimum" in schema:
        said += f" (a {'whole ' * (schema['type'] == 'integer')}number, "
        said += f"{schema['minimum']:g} to {schema['maximum']:g})"
    return said


def _shown(value: object) -> str:
    if isinstance(value, str):
        text_ = repr(value)
        return text_ if len(text_) <= MAX_SHOWN else f"{text_[:MAX_SHOWN]}…"
    if isinstance(value, Mapping | list):
        return _KINDS["object" if isinstance(value, Mapping) else "array"]
    return "nothing" if value is None else json.dumps(value)


def _list(names: Iterable[object], last: str = " and ") -> str:
    *first, end = [repr(name) for name in names]
    return f"{', '.join(first)}{last}{end}" if first else end
