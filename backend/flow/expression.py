"""Conditions and small sums over a flow's variables. Pure; nothing is ever evaluated as Python.

Python's parser gives the tree; of it only what is listed here is taken, into a tree of our own:
numbers, texts, true, false, null, lists, variables with ``.part`` and ``[0]``, ``and or not``,
``== != < <= > >= in``, ``+ - * /``, and the functions of FUNCTIONS. Values of two kinds are never
compared: ``digits == 1`` is an error, since keys are a text. Errors tell no values: they may be
secret.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backend.errors import FlowValueError
from backend.flow.text import MISSING, Path, as_text, look_up, spell

MAX_CHARS = 500
MAX_DEPTH = 20
MAX_VALUE = 1e15
MAX_TEXT = 10_000

_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_SUMS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


@dataclass(frozen=True, slots=True)
class Value:
    value: Any


@dataclass(frozen=True, slots=True)
class Variable:
    path: Path


@dataclass(frozen=True, slots=True)
class Group:
    """``operator``: and, or, not, list, a comparison, a sum, or a function's name."""

    operator: str
    parts: tuple[Tree, ...]


Tree = Value | Variable | Group


@dataclass(frozen=True, slots=True)
class Expression:
    text: str
    tree: Tree

    @property
    def names(self) -> frozenset[str]:
        """The variables in it."""
        return frozenset(_names(self.tree))

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Raises FlowValueError."""
        try:
            return _value(self.tree, variables)
        except FlowValueError as error:
            raise FlowValueError(f"{self.text}: {error}") from None

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """As a condition. Raises FlowValueError where it is neither true nor false."""
        value = self.value(variables)
        if not isinstance(value, bool):
            raise FlowValueError(f"{self.text}: expected true or false, it is {_kind(value)}")
        return value


def parse(text: str) -> Expression:
    """Raises FlowValueError that says what is wrong and where."""
    if len(text) > MAX_CHARS:
        raise FlowValueError(f"longer than {MAX_CHARS} characters: {text[:40]!r}…")
    if "\\" in text:
        raise FlowValueError(f"{text!r}: no backslashes")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        wrong = "compares with '=': write '=='" if _single_equals(text) else error.msg
        raise FlowValueError(f"{text!r}: {wrong}, at character {error.offset or 1}") from None
    except (ValueError, RecursionError, MemoryError):
        raise FlowValueError(f"{text[:60]!r}: too deep, or no text") from None
    return Expression(text.strip(), _tree(tree.body, text, 0))


def _single_equals(text: str) -> bool:
    plain = text
    for sign in ("==", "!=", "<=", ">="):
        plain = plain.replace(sign, "")
    return "=" in plain


def _tree(node: ast.expr, text: str, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise FlowValueError(f"{text[:60]!r}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, ast.Constant):
        return _constant(node.value, text)
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return Value(_WORDS[node.id])
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return Variable(_path(node, text))
    operator, parts = _group(node, text)
    return Group(operator, tuple(_tree(part, text, depth + 1) for part in parts))


def _constant(value: object, text: str) -> Value:
    if value is None or isinstance(value, bool):
        raise FlowValueError(f"{text!r}: write true, false and null in small letters")
    if not isinstance(value, str | int | float):
        raise FlowValueError(f"{text!r}: {value!r:.40} is no text and no number")
    return Value(value)


def _group(node: ast.expr, text: str) -> tuple[str, list[ast.expr]]:
    """Operator and parts of what is allowed to have some."""
    match node:
        case ast.List(elts=parts):
            return "list", parts
        case ast.BoolOp(op=operator, values=parts):
            return "and" if isinstance(operator, ast.And) else "or", parts
        case ast.UnaryOp(op=ast.Not() | ast.USub() as sign, operand=part):
            return "not" if isinstance(sign, ast.Not) else "negative", [part]
        case ast.BinOp(left=left, op=sum_, right=right) if type(sum_) in _SUMS:
            return _SUMS[type(sum_)], [left, right]
        case ast.Compare(left=left, ops=[one], comparators=[right]) if type(one) in _COMPARE:
            return _COMPARE[type(one)], [left, right]
        case ast.Compare():
            raise FlowValueError(f"{text!r}: one comparison at a time; join them with 'and'")
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=[]):
            return _function(name, parts, text)
    raise FlowValueError(
        f"{text!r}: {ast.unparse(node)[:40]!r} is not allowed: expected variables, texts, numbers, "
        "and or not == != < <= > >= in + - * / ( ) [ ]"
    )


def _function(name: str, parts: list[ast.expr], text: str) -> tuple[str, list[ast.expr]]:
    if name not in FUNCTIONS:
        known = ", ".join(FUNCTIONS)
        raise FlowValueError(f"{text!r}: there is no function {name!r}; known: {known}")
    if len(parts) != 1:
        raise FlowValueError(f"{text!r}: {name}() takes one value")
    return name, parts


def _path(node: ast.expr, text: str) -> Path:
    match node:
        case ast.Name(id=name):
            return (name,)
        case ast.Attribute(value=inner, attr=part):
            return (*_path(inner, text), part)
        case ast.Subscript(value=inner, slice=ast.Constant(value=str() | int() as part)) if (
            not isinstance(part, bool)
        ):
            return (*_path(inner, text), part)
    raise FlowValueError(f"{text!r}: expected a variable with .name or [0] behind it")


def _names(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Variable):
        yield str(tree.path[0])
    elif isinstance(tree, Group):
        for part in tree.parts:
            yield from _names(part)


# Its value


def _value(tree: Tree, variables: Mapping[str, Any]) -> Any:
    if isinstance(tree, Value):
        return tree.value
    if isinstance(tree, Variable):
        found = look_up(tree.path, variables)
        if found is MISSING and len(tree.path) == 1:
            raise FlowValueError(f"{spell(tree.path)} has no value")
        return None if found is MISSING else found
    if tree.operator in ("and", "or"):
        return _joined(tree, variables)
    parts = [_value(part, variables) for part in tree.parts]
    if tree.operator == "list":
        return parts
    if tree.operator == "not":
        return not _truth(parts[0])
    if tree.operator == "negative":
        return _sum("-", 0, parts[0])
    if tree.operator in FUNCTIONS:
        return FUNCTIONS[tree.operator](parts[0])
    if tree.operator in _SUMS.values():
        return _sum(tree.operator, *parts)
    return _compared(tree.operator, *parts)


def _joined(tree: Group, variables: Mapping[str, Any]) -> bool:
    """As far as needed: ``x != null and x.sum > 5``."""
    ends = tree.operator == "or"
    for part in tree.parts:
        if _truth(_value(part, variables)) is ends:
            return ends
    return not ends


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise FlowValueError(f"{_kind(value)} is neither true nor false")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list):
        return "a list"
    return "null" if value is None else "an object"


def _compared(operator: str, left: Any, right: Any) -> bool:
    if operator in ("in", "not in"):
        return _inside(left, right) is (operator == "in")
    kinds = _kind(left), _kind(right)
    if operator in ("==", "!="):
        if kinds[0] != kinds[1] and "null" not in kinds:
            raise FlowValueError(
                f"compares {kinds[0]} with {kinds[1]}: number(…) and text(…) change one into the"
                " other"
            )
        return bool(left == right) is (operator == "==")
    if kinds not in (("a number", "a number"), ("a text", "a text")):
        said = " and ".join(kinds)
        raise FlowValueError(f"{operator} compares two numbers or two texts, not {said}")
    if operator in ("<", ">="):
        return bool(left < right) is (operator == "<")
    return bool(left > right) is (operator == ">")


def _inside(left: Any, right: Any) -> bool:
    if isinstance(right, str) and isinstance(left, str):
        return left in right
    if isinstance(right, list):
        return any(_kind(left) == _kind(one) and left == one for one in right)
    if isinstance(right, Mapping) and isinstance(left, str):
        return left in right
    raise FlowValueError(f"'in' looks into a text, a list or an object, not {_kind(right)}")


def _sum(operator: str, left: Any, right: Any) -> Any:
    kinds = _kind(left), _kind(right)
    if operator == "+" and kinds == ("a text", "a text"):
        if len(left) + len(right) > MAX_TEXT:
            raise FlowValueError(f"a text longer than {MAX_TEXT} characters")
        return left + right
    if kinds != ("a number", "a number"):
        raise FlowValueError(f"{operator} takes two numbers, not {' and '.join(kinds)}")
    if max(abs(left), abs(right)) > MAX_VALUE:
        raise FlowValueError(f"a number beyond {MAX_VALUE:g}")
    if operator == "/":
        if right == 0:
            raise FlowValueError("divides by 0")
        found = left / right
    else:
        found = {"+": left + right, "-": left - right, "*": left * right}[operator]
    if abs(found) > MAX_VALUE:
        raise FlowValueError(f"a number beyond {MAX_VALUE:g}")
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise FlowValueError(f"number(…): expected a text of digits, not {_kind(value)}")
    text = value.strip().replace(",", ".") if isinstance(value, str) else value
    try:
        found = float(text)
    except (ValueError, OverflowError):
        found = float("nan")
    if not abs(found) <= MAX_VALUE:
        raise FlowValueError("number(…): the text is no number")
    return int(found) if found.is_integer() else found


def _length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise FlowValueError(f"length(…): expected a text, a list or an object, not {_kind(value)}")
    return len(value)


def _lower(value: Any) -> str:
    return as_text(value).lower()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "number": _number,
    "text": as_text,
    "length": _length,
    "lower": _lower,
}
