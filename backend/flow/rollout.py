"""Which version of a flow a call gets, how a new one takes over, when it is taken back. Pure.

put → test (numbers) → share (percent) → all; back from everywhere. ``stable`` is what calls get
that have no part in this; None: what the files of scenarios hold under the flow's name, if they do.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from backend.errors import BadRequest

State = Literal["stable", "put", "test", "share", "all"]
Cohort = Literal["stable", "candidate", "test"]
Priority = Literal["normal", "high"]
Action = Literal["test", "share", "all", "back", "pin", "unpin"]

MAX_TEST_NUMBERS = 100
MAX_NODES = 32
MAX_NODE = 255
WATCH_ALL_S = 3600.0  # a version that all calls have is watched this long: then back is for people
# A good version may look bad by accident. It is asked anew every two seconds, so the chance of one
# look is kept small; three calls of three that fail are beyond it with every limit up to 10 %.
CHANCE = 0.001

FALL_BACK = "fall_back"  # in the history: nobody ordered it

_NUMBER = re.compile(r"\+?[0-9A-Za-z#*.@_-]{1,64}")
_NOBODY = frozenset({"", "anonymous", "unknown", "unavailable", "restricted"})


@dataclass(frozen=True, slots=True)
class Limits:
    """When a new version is taken back. Rates in percent; ``min_calls`` since the step began."""

    min_calls: int = 3
    error_percent: float = 5.0
    loss_percent: float = 1.0

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        whole = isinstance(self.min_calls, int) and not isinstance(self.min_calls, bool)
        if not whole or not 1 <= self.min_calls <= 100_000:
            raise BadRequest("min_calls", f"{_shown(self.min_calls)}: expected 1 to 100000")
        _percent("error_percent", self.error_percent)
        _percent("loss_percent", self.loss_percent)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One flow's. ``previous``: what ``stable`` was before the last ``all``, for ``back``.
    ``share``: percent. ``nodes``: who alone dials its tasks; none: everybody."""

    flow: str
    state: State = "stable"
    stable: str | None = None
    candidate: str | None = None
    previous: str | None = None
    test_numbers: tuple[str, ...] = ()
    share: float = 0.0
    limits: Limits = field(default_factory=Limits)
    nodes: tuple[str, ...] = ()
    priority: Priority = "normal"

    @property
    def watched(self) -> str | None:
        """The version that is judged: it has calls, and there may be a way back."""
        if self.state in ("test", "share"):
            return self.candidate
        return self.stable if self.state == "all" else None

    @property
    def in_use(self) -> frozenset[str]:
        """The versions that calls get, or would after a way back."""
        return frozenset({self.stable, self.candidate, self.previous} - {None})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one version, since the step began. The names are those of table flow_figures."""

    calls: int = 0
    calls_failed: int = 0
    keys_taken: int = 0
    keys_lost: int = 0

    def since(self, before: Figures) -> Figures:
        """What was added; a figure that was set back counts from nothing."""
        return Figures(
            *(
                now - then if now >= then else now
                for now, then in zip(_counts(self), _counts(before), strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason``: for a person; empty when it is kept."""

    fall_back: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FellBack:
    """A version was taken back by the backend itself. ``now``: what all calls get, None: what the
    files hold. ``hurt``: calls that failed or lost keys with it; ``calls``: the last of them."""

    flow: str
    version: str
    now: str | None
    reason: str
    hurt: int
    calls: tuple[str, ...] = ()


# --- Who gets which ------------------------------------------------------------------------------


def choose(rollout: Rollout, caller_key: str) -> tuple[str | None, Cohort]:
    """The version for a call that begins now. ``caller_key``: the other side's number; who hides
    it is nobody in particular, and gets the stable version."""
    key = caller_key_of(caller_key)
    if rollout.candidate is not None and rollout.state in ("test", "share"):
        if key and key in rollout.test_numbers:
            return rollout.candidate, "test"
        if rollout.state == "share" and key and place(rollout.flow, key) < rollout.share:
            return rollout.candidate, "candidate"
    return rollout.stable, "stable"


def place(flow: str, caller_key: str) -> float:
    """Where this caller stands between 0 and 100, for this flow, for ever: a share of s percent
    is those below s, so a share that grows keeps whom it had."""
    digest = hashlib.sha256(f"{flow}\0{caller_key}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * 100


def caller_key_of(number: str) -> str:
    """``+7916…`` and ``7916…`` are one caller; empty: the number is hidden."""
    key = number.strip().removeprefix("+")
    return "" if key.lower() in _NOBODY else key


# --- Steps ---------------------------------------------------------------------------------------


def put(rollout: Rollout, version: str, priority: Priority = "normal") -> Rollout:
    """``version`` is the candidate; no call gets it yet. The same again changes nothing.
    Raises BadRequest."""
    if version == rollout.candidate:
        return rollout
    if version == rollout.stable:
        raise BadRequest("text", f"is version {version}, which all calls have already")
    if rollout.state == "share":
        raise BadRequest(
            "text",
            f"version {rollout.candidate} has {rollout.share:g} % of the calls of {rollout.flow}:"
            " finish that first, with 'all' or 'back'",
        )
    return replace(rollout, state="put", candidate=version, priority=priority, share=0.0)


def test(rollout: Rollout, numbers: Sequence[str] = ()) -> Rollout:
    """These numbers get the candidate; none named: those of last time. Raises BadRequest."""
    _candidate(rollout)
    chosen = check_numbers(numbers) if numbers else rollout.test_numbers
    if not chosen:
        raise BadRequest("numbers", "is missing: which numbers shall get the candidate?")
    state: State = "share" if rollout.state == "share" else "test"
    return replace(rollout, state=state, test_numbers=chosen)


def share(rollout: Rollout, percent: float) -> Rollout:
    """This share of callers gets the candidate, beside the test numbers. Raises BadRequest."""
    _candidate(rollout)
    return replace(rollout, state="share", share=_percent("percent", percent))


def all_calls(rollout: Rollout) -> Rollout:
    """The candidate is the stable version. Raises BadRequest."""
    candidate = _candidate(rollout)
    return replace(
        rollout,
        state="all",
        stable=candidate,
        candidate=None,
        previous=rollout.stable,
        share=0.0,
    )


def back(rollout: Rollout) -> Rollout:
    """The candidate is taken away; without one the stable version is what it was before ``all``.
    Raises BadRequest."""
    if rollout.candidate is not None:
        return replace(rollout, state="stable", candidate=None, share=0.0)
    if rollout.state == "all":
        return replace(rollout, state="stable", stable=rollout.previous, previous=None)
    raise BadRequest(
        "action", f"flow {rollout.flow} has no candidate, and 'all' was not its last step"
    )


def pin(rollout: Rollout, nodes: Sequence[str]) -> Rollout:
    """Its tasks are dialled by these machines alone. Raises BadRequest."""
    if rollout.priority != "high":
        raise BadRequest(
            "nodes",
            f"only flows of high priority have machines of their own: write 'priority: high' into"
            f" the file of {rollout.flow} and put it",
        )
    if not nodes:
        raise BadRequest("nodes", "is missing: which machines? ('unpin' gives it back to all)")
    if len(nodes) > MAX_NODES:
        raise BadRequest("nodes", f"are {len(nodes)}; at most {MAX_NODES}")
    for node in nodes:
        if not node or len(node) > MAX_NODE or not node.isprintable() or node != node.strip():
            raise BadRequest("nodes", f"{_shown(node)} is no machine's name (setting node)")
    return replace(rollout, nodes=tuple(dict.fromkeys(nodes)))


def unpin(rollout: Rollout) -> Rollout:
    """Every machine may dial its tasks. Raises BadRequest."""
    if not rollout.nodes:
        raise BadRequest("action", f"flow {rollout.flow} is not pinned")
    return replace(rollout, nodes=())


@dataclass(frozen=True, slots=True)
class Order:
    """A step that somebody wants. ``version``: which one he means, if he says so: another may have
    been handed in meanwhile. ``limits``: those that change, by their names."""

    action: Action
    numbers: tuple[str, ...] = ()
    percent: float | None = None
    nodes: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    reason: str = ""


def subject(rollout: Rollout) -> str | None:
    """The version that a step is about: the candidate, or what all calls have just got."""
    if rollout.candidate is None and rollout.state == "all":
        return rollout.stable
    return rollout.candidate


def carry_out(rollout: Rollout, order: Order) -> Rollout:
    """The roll-out after the step. Raises BadRequest."""
    about = subject(rollout)
    if order.version is not None and order.version != about:
        now = f"version {about} is under way" if about else "no version is under way"
        raise BadRequest("version", f"{_shown(order.version)}: {now}")
    if order.limits:
        rollout = replace(rollout, limits=replace(rollout.limits, **order.limits))
    match order.action:
        case "test":
            return test(rollout, order.numbers)
        case "share":
            if order.percent is None:
                raise BadRequest("percent", "is missing: which share of the callers?")
            return share(rollout, order.percent)
        case "all":
            return all_calls(rollout)
        case "back":
            return back(rollout)
        case "pin":
            return pin(rollout, order.nodes)
        case "unpin":
            return unpin(rollout)


def told(order: Order, after: Rollout) -> str:
    """What the history says of a step."""
    details = {
        "test": ", ".join(after.test_numbers),
        "share": f"{after.share:g} %",
        "pin": ", ".join(after.nodes),
    }
    return "; ".join(filter(None, (details.get(order.action), order.reason)))


def check_numbers(numbers: Collection[str]) -> tuple[str, ...]:
    """Test numbers as they are compared. Raises BadRequest."""
    if len(numbers) > MAX_TEST_NUMBERS:
        raise BadRequest("numbers", f"are {len(numbers)}; at most {MAX_TEST_NUMBERS}")
    for number in numbers:
        if not _NUMBER.fullmatch(number) or not caller_key_of(number):
            raise BadRequest("numbers", f"{_shown(number)} is no number")
    return tuple(dict.fromkeys(caller_key_of(number) for number in numbers))


# --- Judged --------------------------------------------------------------------------------------


def judge(figures: Figures, limits: Limits) -> Judgement:
    """Whether a version is to be taken back: of its calls since the step began so many failed, or
    of its keys so many were lost, that a version within the limit would do so once in 1/CHANCE."""
    if figures.calls < limits.min_calls:
        return Judgement(False)
    keys = figures.keys_taken + figures.keys_lost
    for what, bad, count, limit in (
        ("calls failed", figures.calls_failed, figures.calls, limits.error_percent),
        ("keys were lost", figures.keys_lost, keys, limits.loss_percent),
    ):
        if beyond(bad, count, limit / 100):
            rate = f"{100 * bad / count:.3g} %, the limit is {limit:g} %"
            return Judgement(True, f"{bad} of {count} {what}: {rate}")
    return Judgement(False)


def beyond(bad: int, count: int, limit: float) -> bool:
    """Whether the rate is certainly above ``limit``: its exact lower bound is (Clopper and Pearson
    1934, one-sided), that is, ``bad`` or more of ``count`` have a chance below CHANCE at it."""
    bad = min(bad, count)  # figures are read while they are counted
    if bad <= count * limit or limit >= 1:
        return False
    log_term = (
        math.lgamma(count + 1)
        - math.lgamma(bad + 1)
        - math.lgamma(count - bad + 1)
        + bad * math.log(limit)
        + (count - bad) * math.log1p(-limit)
    )
    # Above the mean each term is smaller than the one before.
    term = total = math.exp(log_term)
    for k in range(bad, count):
        term *= (count - k) / (k + 1) * limit / (1 - limit)
        total += term
        if total >= CHANCE or term < total * 1e-9:
            break
    return total < CHANCE


def _candidate(rollout: Rollout) -> str:
    if rollout.candidate is None:
        raise BadRequest(
            "action",
            f"flow {rollout.flow} has no candidate: hand one in first (asterisk-dialog flow put)",
        )
    return rollout.candidate


def _percent(name: str, value: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 100:
        raise BadRequest(name, f"{_shown(value)}: expected more than 0, at most 100 (percent)")
    return float(value)


def _counts(figures: Figures) -> tuple[int, int, int, int]:
    return figures.calls, figures.calls_failed, figures.keys_taken, figures.keys_lost


def _shown(value: object) -> str:
    return ascii(value)[:60]
