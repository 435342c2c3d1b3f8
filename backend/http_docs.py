"""The page /docs: the OpenAPI description for people, one file without outside parts. Pure."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222;background:#fff}
h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}
code{background:#f3f3f3;padding:.1rem .3rem;border-radius:3px}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;
padding:.3rem .6rem;border-bottom:1px solid #eee}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#2a2a2a}
td,th,h2{border-color:#333}a{color:#8bf}}
"""


def page(api: dict[str, Any]) -> str:
    """HTML for an OpenAPI description as http_api.openapi() makes it."""
    info = api["info"]
    schemas = api["components"]["schemas"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        f"<p>{escape(info['description'])} The same for programs: "
        '<a href="openapi.json">openapi.json</a>.</p>',
        "<p>Every request needs a token: <code>Authorization: Bearer …</code>, or Basic with the "
        "client's name and its token.</p>",
    ]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    parts.append('<h2 id="schemas">Answers and bodies</h2>')
    for name, schema in sorted(schemas.items()):
        parts += _schema(name, schema)
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>",
        f"<p>{escape(operation['summary'])}</p>",
    ]
    rows = [
        (item["name"] + (" *" if item["required"] else ""), escape(item.get("description", "")))
        for item in operation.get("parameters", ())
    ]
    if rows:
        parts.append(_table("parameter", rows))
    body = operation.get("requestBody", {}).get("content", {})
    parts += [f"<p>Body: {_link(content['schema'])}</p>" for content in body.values()]
    answers = []
    for status, response in operation["responses"].items():
        schemas = [content.get("schema", {}) for content in response.get("content", {}).values()]
        links = ", ".join(filter(None, map(_link, schemas)))
        answers.append((status, f"{escape(response['description'])} {links}"))
    parts.append(_table("status", answers))
    return parts


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    parts = [f'<h3 id="{escape(name)}">{escape(name)}</h3>']
    if text := schema.get("description"):
        parts.append(f"<p>{escape(text)}</p>")
    if values := schema.get("enum"):
        parts.append("<p>" + ", ".join(f"<code>{escape(str(v))}</code>" for v in values) + "</p>")
    rows = [
        (field, f"{_kind(inner)}. {escape(inner.get('description', ''))}")
        for field, inner in schema.get("properties", {}).items()
    ]
    if rows:
        parts.append(_table("field", rows))
    return parts


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _link(schema)
    for choice in ("anyOf", "allOf", "oneOf"):
        if choice in schema:
            return " or ".join(_kind(inner) for inner in schema[choice])
    if schema.get("type") == "array":
        return f"array of {_kind(schema['items'])}"
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if values:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in values)
    return escape(str(schema.get("format") or schema.get("type") or "any JSON"))


def _link(schema: dict[str, Any]) -> str:
    if "oneOf" in schema:
        return " or ".join(_link(inner) for inner in schema["oneOf"])
    name = escape(schema.get("$ref", "").rsplit("/", 1)[-1])
    return f'<a href="#{name}">{name}</a>' if name else ""


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    """``rows``: plain text, HTML."""
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{text}</td></tr>" for name, text in rows
    )
    return f"<table><tr><th>{head}</th><th></th></tr>{cells}</table>"
