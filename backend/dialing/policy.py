"""The door for requests to dial: a request is admitted whole or refused. Pure.

Nothing is repaired: what a client sent is either what will be dialled, or a ``BadRequest`` that
names the parameter as the client wrote it. Everything that reaches the dialplan or an AMI header
comes from an allow-list or from a character set in which Asterisk's special characters (comma,
``&``, ``${``, ``$[``, quotes, CR, LF, NUL) do not occur.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from backend.errors import BadRequest
from backend.model import TaskRequest

if TYPE_CHECKING:
    from backend.config import Settings

PHONE = re.compile(r"\+?[0-9]{3,15}")
MAX_FILE = 128
MAX_EXTERNAL_ID = 128
MAX_VARIABLE_BYTES = 256
MAX_VARIABLES = 32
MIN_DIAL_TIMEOUT_S, MAX_DIAL_TIMEOUT_S = 1.0, 300.0

_FILE_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_FILE = re.compile(rf"{_FILE_PART}(?:/{_FILE_PART})*")
_SOUND_EXTENSION = re.compile(
    r".*\.(?:al|alaw|alw|mu|ul|ulaw|ulw|g7\w+|gsm|h26\w+|ilbc|mp3|ogg|opus|pcm|raw|siren\w+|slin|"
    r"sln\d*|vox|wav\d*)",
    re.IGNORECASE | re.ASCII,
)
_SCENARIO = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_VARIABLE_PREFIX = "var_"
# Asterisk's argument splitter eats quotes and backslashes and splits at commas, inside the AMI
# header Variable too (main/app.c, __ast_app_separate_args).
_BAD_IN_VARIABLE = (",", "&", '"', "\\", "${", "$[", "..", "://")
_PARAMETERS = (
    "phone",
    "file",
    "scenario",
    "context",
    "channel",
    "caller_id",
    "external_id",
    "timeout",
    "variables",
)


def _no_route(_number: str) -> None:
    return None


def _all_answer(_scenario: str, _number: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Rules:
    """What this installation allows; the names are those of the settings.

    ``scenarios``: the known names, None when they are not known where requests are admitted.
    ``route``: dialled number → scenario, for requests that name none.
    ``answers``: whether calls to a number get anything under a known name; a flow on trial
    answers its test numbers and its share of the callers alone.
    """

    channels: Mapping[str, str] = field(default_factory=lambda: {"default": "PJSIP/{phone}@trunk"})
    contexts: tuple[str, ...] = ("dialog-outbound",)
    caller_ids: tuple[str, ...] = ()
    caller_id: str | None = None
    variables: tuple[str, ...] = ()
    default_scenario: str = "article"
    scenarios: Collection[str] | None = None
    dial_timeout_s: float = 30.0
    route: Callable[[str], str | None] = _no_route
    answers: Callable[[str, str], bool] = _all_answer

    @classmethod
    def of(
        cls,
        settings: Settings,
        scenarios: Collection[str] | None = None,
        route: Callable[[str], str | None] = _no_route,
        answers: Callable[[str, str], bool] = _all_answer,
    ) -> Rules:
        return cls(
            channels=MappingProxyType(dict(settings.channels)),
            contexts=settings.contexts,
            caller_ids=settings.caller_ids,
            caller_id=settings.caller_id,
            variables=settings.variables,
            default_scenario=settings.default_scenario,
            scenarios=scenarios,
            dial_timeout_s=settings.dial_timeout_s,
            route=route,
            answers=answers,
        )


def admit(params: Mapping[str, object], rules: Rules) -> TaskRequest:
    """The request that ``params`` ask for.

    ``params`` holds text as it came from a query string, or JSON values. Variables are either
    ``var_NAME=value`` each (a query string) or one mapping under ``variables`` (JSON). A value
    that is a list is a parameter that was given more than once.

    Raises BadRequest.
    """
    _refuse_unknown(params)
    phone = _phone(params)
    return TaskRequest(
        phone=phone,
        scenario=_scenario(params, phone, rules),
        file=_optional(params, "file", _file),
        context=_one_of(params, "context", rules.contexts, rules.contexts[0]),
        channel=_one_of(params, "channel", rules.channels, "default"),
        caller_id=_caller_id(params, rules),
        external_id=_optional(params, "external_id", _external_id),
        variables=_variables(params, rules),
        dial_timeout_s=_timeout(params, rules),
    )


def _refuse_unknown(params: Mapping[str, object]) -> None:
    for name in params:
        if name not in _PARAMETERS and not name.startswith(_VARIABLE_PREFIX):
            raise BadRequest(
                _shown(name),
                f"there is no such parameter; known: {', '.join(_PARAMETERS)} and var_NAME",
            )


def _phone(params: Mapping[str, object]) -> str:
    if "phone" not in params:
        raise BadRequest("phone", "is missing: the number to dial")
    phone = _text("phone", params["phone"])
    if PHONE.fullmatch(phone):
        return phone
    hint = " (in a URL a plus is written %2B)" if phone.startswith(" ") else ""
    raise BadRequest(
        "phone", f"{_shown(phone)} is no number: 3 to 15 digits, a plus before them if any{hint}"
    )


def _file(name: str, file: str) -> str:
    _refuse_over_long(name, file, MAX_FILE)
    if not _FILE.fullmatch(file) or ".." in file:
        raise BadRequest(
            name,
            f"{_shown(file)} is no name of a sound: letters, digits, '_', '-', '.', folders parted"
            " by '/'; relative to Asterisk's sounds, without '..'",
        )
    if _SOUND_EXTENSION.fullmatch(file):
        raise BadRequest(name, f"{_shown(file)}: leave out the extension, Asterisk chooses it")
    return file


def _scenario(params: Mapping[str, object], phone: str, rules: Rules) -> str:
    scenario = _named_scenario(params, phone, rules)
    if not rules.answers(scenario, phone):
        raise BadRequest(
            "scenario",
            f"{_shown(scenario)} is a flow on trial: it answers its test numbers and its share of"
            f" the callers only, and {phone} is none of them",
        )
    return scenario


def _named_scenario(params: Mapping[str, object], phone: str, rules: Rules) -> str:
    if "scenario" in params:
        return known_scenario(_text("scenario", params["scenario"]), rules)
    routed = rules.route(phone)
    if routed is None:
        return rules.default_scenario
    if rules.scenarios is not None and routed not in rules.scenarios:
        raise BadRequest(
            "scenario",
            f"is missing, and the route of {phone} names {_shown(routed)}, which is unknown",
        )
    return routed


def known_scenario(scenario: str, rules: Rules) -> str:
    """``scenario``, if there is one of that name. Raises BadRequest."""
    if not _SCENARIO.fullmatch(scenario):
        raise BadRequest(
            "scenario",
            f"{_shown(scenario)} is no scenario's name: a letter, then letters, digits, '_', '-'",
        )
    if rules.scenarios is not None and scenario not in rules.scenarios:
        known = ", ".join(sorted(rules.scenarios)) or "none"
        raise BadRequest("scenario", f"{_shown(scenario)} is unknown; known: {known}")
    return scenario


def _one_of(params: Mapping[str, object], name: str, allowed: Collection[str], default: str) -> str:
    if name not in params:
        return default
    value = _text(name, params[name])
    if value not in allowed:
        raise BadRequest(name, f"{_shown(value)} is not allowed; allowed: {', '.join(allowed)}")
    return value


def _caller_id(params: Mapping[str, object], rules: Rules) -> str | None:
    if "caller_id" not in params:
        return rules.caller_id
    value = _text("caller_id", params["caller_id"])
    if value in rules.caller_ids or value == rules.caller_id:
        return value
    if "*" in rules.caller_ids:
        if PHONE.fullmatch(value):
            return value
        raise BadRequest("caller_id", f"{_shown(value)} is no number: 3 to 15 digits")
    allowed = ", ".join(rules.caller_ids) or "none (setting caller_ids)"
    raise BadRequest("caller_id", f"{_shown(value)} is not allowed; allowed: {allowed}")


def _external_id(name: str, value: str) -> str:
    _refuse_over_long(name, value, MAX_EXTERNAL_ID)
    if not value.isprintable() or value != value.strip():
        raise BadRequest(name, "must be printable, with no space at its ends")
    return value


def _variables(params: Mapping[str, object], rules: Rules) -> Mapping[str, str]:
    asked: dict[str, tuple[str, object]] = {}  # name → (as the client wrote it, value)
    given = params.get("variables", {})
    if not isinstance(given, Mapping):
        raise BadRequest("variables", "must be a JSON object; in a query string: var_NAME=value")
    for name, value in given.items():
        asked[str(name)] = (f"variables.{name}", value)
    for parameter, value in params.items():
        if parameter.startswith(_VARIABLE_PREFIX):
            name = parameter.removeprefix(_VARIABLE_PREFIX)
            if name in asked:
                raise BadRequest(_shown(parameter), "is in 'variables' too")
            asked[name] = (parameter, value)
    if len(asked) > MAX_VARIABLES:
        raise BadRequest("variables", f"are {len(asked)}; at most {MAX_VARIABLES}")
    return {
        name: _variable(name, parameter, value, rules) for name, (parameter, value) in asked.items()
    }


def _variable(name: str, parameter: str, value: object, rules: Rules) -> str:
    shown = _shown(parameter)
    if name not in rules.variables:
        allowed = ", ".join(rules.variables) or "none (setting variables)"
        raise BadRequest(shown, f"is not a variable that may be set; allowed: {allowed}")
    text = _text(shown, value, empty=True)
    _refuse_over_long(shown, text, MAX_VARIABLE_BYTES)
    if not text.isprintable():
        raise BadRequest(shown, "holds a control character (CR, LF, NUL, tab …)")
    for bad in _BAD_IN_VARIABLE:
        if bad in text:
            raise BadRequest(shown, f"must not hold {bad!r}: Asterisk would not take it literally")
    return text


def _timeout(params: Mapping[str, object], rules: Rules) -> float:
    if "timeout" not in params:
        return rules.dial_timeout_s
    value = params["timeout"]
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", value, re.ASCII):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest("timeout", f"{_shown(value)} is no number of seconds")
    if not MIN_DIAL_TIMEOUT_S <= value <= MAX_DIAL_TIMEOUT_S:
        raise BadRequest(
            "timeout",
            f"{_shown(value)} is out of range: {MIN_DIAL_TIMEOUT_S:g} to"
            f" {MAX_DIAL_TIMEOUT_S:g} seconds",
        )
    return float(value)


def _optional(
    params: Mapping[str, object], name: str, check: Callable[[str, str], str]
) -> str | None:
    return check(name, _text(name, params[name])) if name in params else None


def _text(name: str, value: object, *, empty: bool = False) -> str:
    if isinstance(value, list | tuple):
        raise BadRequest(name, "is given more than once")
    if not isinstance(value, str):
        raise BadRequest(name, f"must be text, not {type(value).__name__}")
    if not value and not empty:
        raise BadRequest(name, "is empty; leave it out instead")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequest(name, "is not valid Unicode") from None
    return value


def _refuse_over_long(name: str, text: str, most: int) -> None:
    if len(text.encode()) > most:
        raise BadRequest(name, f"is too long: at most {most} bytes in UTF-8")


def _shown(value: object) -> str:
    """``value`` in a message for a person: quoted, one line, not endless."""
    text = value if isinstance(value, str) else str(value)
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return short if re.fullmatch(r"[\w.:+-]+", short) else ascii(short)
