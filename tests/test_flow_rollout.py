"""flow.rollout: who gets which version, the steps, and when one is taken back."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

import backend.flow.rollout as rules
from backend.errors import BadRequest
from backend.flow.rollout import Figures, Limits, Order, Rollout, State, choose, judge

NEW = Rollout(
    "menu", "share", stable="old", candidate="new", share=5.0, test_numbers=("79160000001",)
)


def callers(count: int) -> list[str]:
    """Numbers as an operator gives them out: blocks of neighbours, several codes."""
    codes = ("7495", "7812", "7916", "7903", "7800")
    return [f"{codes[n % 5]}{2_000_000 + n * 37 % 7_000_000:07}" for n in range(count)]


# --- Who gets which ------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["menu", "survey", "payment-reminder", "m", "МЕНЮ"])
@pytest.mark.parametrize("percent", [1.0, 5.0, 50.0])
def test_the_share_is_the_share(flow: str, percent: float) -> None:
    rollout = replace(NEW, flow=flow, share=percent, test_numbers=())
    numbers = callers(10_000)
    assert len(set(numbers)) == 10_000
    got = sum(choose(rollout, number) == ("new", "candidate") for number in numbers)
    tolerance = {1.0: 0.25, 5.0: 0.5, 50.0: 1.5}[percent]
    assert percent - tolerance <= got / 100 <= percent + tolerance


def test_a_share_that_grows_keeps_whom_it_had() -> None:
    before: set[str] = set()
    for percent in (1, 5, 20, 50, 100):
        rollout = replace(NEW, share=float(percent))
        now = {number for number in callers(2000) if choose(rollout, number)[0] == "new"}
        assert before < now
        before = now
    assert len(before) == 2000


def test_flows_are_tried_on_different_callers() -> None:
    def chosen(flow: str) -> set[str]:
        rollout = replace(NEW, flow=flow, share=50.0)
        return {number for number in callers(2000) if choose(rollout, number)[0] == "new"}

    both = len(chosen("menu") & chosen("survey"))
    assert 400 < both < 600, "a quarter: they do not know of each other"


def test_the_place_of_a_caller_is_the_same_for_ever() -> None:
    """Machines of several versions serve together: a change here moves callers. By sha256sum."""
    assert rules.place("menu", "79161234567") == pytest.approx(99.6825, abs=1e-4)
    assert rules.place("меню", "sip:a") == pytest.approx(36.6882, abs=1e-4)


@pytest.mark.parametrize("number", ["79160000001", "+79160000001", " 79160000001 "])
def test_a_test_number_gets_the_candidate(number: str) -> None:
    given: tuple[State, ...] = ("test", "share")
    for state in given:
        assert choose(replace(NEW, state=state, share=0.0001), number) == ("new", "test")
    others: tuple[State, ...] = ("put", "stable", "all")
    for state in others:
        assert choose(replace(NEW, state=state), number) == ("old", "stable")


def test_in_test_nobody_else_gets_it() -> None:
    rollout = replace(NEW, state="test", share=100.0)
    assert {choose(rollout, number) for number in callers(500)} == {("old", "stable")}


@pytest.mark.parametrize("number", ["", " ", "anonymous", "Anonymous", "unknown", "+"])
def test_who_hides_the_number_stays_on_the_stable_version(number: str) -> None:
    rollout = replace(NEW, share=100.0)
    assert choose(rollout, number) == ("old", "stable")
    assert choose(rollout, "7916") == ("new", "candidate")


def test_a_flow_that_was_never_given_to_all_has_no_stable_version() -> None:
    assert choose(replace(NEW, stable=None, state="put"), "1") == (None, "stable")


# --- Steps ---------------------------------------------------------------------------------------


def test_the_whole_way_and_back() -> None:
    at = Rollout("menu")
    at = rules.put(at, "one")
    assert (at.state, at.candidate, at.stable, at.watched) == ("put", "one", None, None)
    at = rules.all_calls(at)
    assert (at.state, at.candidate, at.stable, at.previous) == ("all", None, "one", None)
    at = rules.put(at, "two", "high")
    assert (at.state, at.priority, at.watched) == ("put", "high", None)
    at = rules.test(at, ["+7916", "7917", "7916"])
    assert (at.state, at.test_numbers, at.watched) == ("test", ("7916", "7917"), "two")
    at = rules.share(at, 5)
    assert (at.state, at.share, at.watched) == ("share", 5.0, "two")
    at = rules.share(at, 20.5)
    assert at.share == 20.5
    done = rules.all_calls(at)
    assert (done.state, done.stable, done.previous, done.watched) == ("all", "two", "one", "two")
    assert done.in_use == {"one", "two"}
    undone = rules.back(done)
    assert (undone.state, undone.stable, undone.previous) == ("stable", "one", None)
    taken = rules.back(at)
    assert (taken.state, taken.stable, taken.candidate, taken.share) == ("stable", "one", None, 0.0)
    assert rules.test(rules.put(taken, "three")).test_numbers == ("7916", "7917"), "as last time"


def test_what_is_put_again_changes_nothing() -> None:
    at = rules.put(Rollout("menu"), "one")
    assert rules.put(at, "one") is at
    shared = rules.share(at, 5)
    assert rules.put(shared, "one") is shared


def test_a_candidate_may_be_replaced_until_callers_have_it() -> None:
    at = rules.test(rules.put(Rollout("menu", stable="old"), "one"), ["7916"])
    again = rules.put(at, "two")
    assert (again.state, again.candidate) == ("put", "two")
    with pytest.raises(BadRequest, match="version one has 5 % of the calls of menu: finish that"):
        rules.put(rules.share(at, 5), "two")


@pytest.mark.parametrize(
    ("order", "parameter", "why"),
    [
        (Order("share", percent=5), "action", "has no candidate: hand one in first"),
        (Order("test", numbers=("1",)), "action", "has no candidate"),
        (Order("all"), "action", "has no candidate"),
        (Order("back"), "action", "no candidate, and 'all' was not its last step"),
        (Order("unpin"), "action", "is not pinned"),
        (Order("pin", nodes=("a",)), "nodes", "priority: high"),
        (Order("back", version="x"), "version", "no version is under way"),
    ],
)
def test_a_step_out_of_order_says_what_to_do(order: Order, parameter: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as caught:
        rules.carry_out(Rollout("menu", stable="old"), order)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("order", "parameter"),
    [
        (Order("share"), "percent"),
        (Order("share", percent=0), "percent"),
        (Order("share", percent=-1), "percent"),
        (Order("share", percent=100.1), "percent"),
        (Order("share", percent=float("nan")), "percent"),
        (Order("share", percent=True), "percent"),
        (Order("test"), "numbers"),
        (Order("test", numbers=("a b",)), "numbers"),
        (Order("test", numbers=("anonymous",)), "numbers"),
        (Order("test", numbers=("",)), "numbers"),
        (Order("test", numbers=tuple(map(str, range(101)))), "numbers"),
        (Order("all", version="other"), "version"),
        (Order("pin"), "nodes"),
        (Order("pin", nodes=(" a",)), "nodes"),
        (Order("pin", nodes=("",)), "nodes"),
        (Order("pin", nodes=tuple(map(str, range(33)))), "nodes"),
    ],
)
def test_each_bad_value_is_named(order: Order, parameter: str) -> None:
    at = rules.put(Rollout("menu", stable="old"), "new", "high")
    with pytest.raises(BadRequest) as caught:
        rules.carry_out(at, order)
    assert caught.value.parameter == parameter


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ({"min_calls": 0}, "min_calls"),
        ({"min_calls": 2.5}, "min_calls"),
        ({"min_calls": True}, "min_calls"),
        ({"error_percent": 0}, "error_percent"),
        ({"error_percent": 101}, "error_percent"),
        ({"loss_percent": "1"}, "loss_percent"),
    ],
)
def test_limits_that_are_none(values: dict[str, float], parameter: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Limits(**values)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter


def test_the_version_that_all_calls_have_is_no_candidate() -> None:
    with pytest.raises(BadRequest, match="all calls have already"):
        rules.put(Rollout("menu", stable="old"), "old")


def test_who_orders_may_say_which_version_he_means() -> None:
    assert rules.carry_out(NEW, Order("all", version="new")).stable == "new"
    done = rules.all_calls(NEW)
    assert rules.carry_out(done, Order("back", version="new")).stable == "old"
    with pytest.raises(BadRequest, match="version new is under way"):
        rules.carry_out(NEW, Order("all", version="newer"))


def test_pinned_and_given_back() -> None:
    at = rules.put(Rollout("menu"), "one", "high")
    pinned = rules.carry_out(at, Order("pin", nodes=("a", "b", "a")))
    assert (pinned.nodes, pinned.state) == (("a", "b"), "put")
    assert rules.carry_out(pinned, Order("unpin")).nodes == ()


def test_what_the_history_says() -> None:
    assert rules.told(Order("share", percent=5), NEW) == "5 %"
    assert rules.told(Order("test"), NEW) == "79160000001"
    assert rules.told(Order("back", reason="silent at node 3"), NEW) == "silent at node 3"
    assert rules.told(Order("pin"), replace(NEW, nodes=("a", "b"))) == "a, b"
    assert rules.told(Order("all"), NEW) == ""


def step(at: Rollout, order: str | Order) -> Rollout:
    """Text: a version that is put."""
    return rules.put(at, order, "high") if isinstance(order, str) else rules.carry_out(at, order)


ORDERS = st.one_of(
    st.sampled_from(["one", "two", "three"]),  # put
    st.builds(Order, st.sampled_from(["test"]), numbers=st.just(("7916",))),
    st.builds(Order, st.just("share"), percent=st.floats(0.1, 100)),
    st.builds(Order, st.sampled_from(["all", "back", "unpin"])),
    st.builds(Order, st.just("pin"), nodes=st.just(("a",))),
)


@given(st.lists(ORDERS, max_size=30))
def test_whatever_is_ordered_calls_get_what_some_step_gave_them(orders: list[str | Order]) -> None:
    at = Rollout("menu")
    for order in orders:
        before = at
        try:
            at = (
                rules.put(at, order, "high")
                if isinstance(order, str)
                else rules.carry_out(at, order)
            )
        except BadRequest:
            continue
        assert at.stable != at.candidate or at.stable is None
        assert (at.candidate is not None) == (at.state in ("put", "test", "share"))
        assert {choose(at, n)[0] for n in ("7916", "7917", "")} <= {at.stable, at.candidate}
        if at.stable != before.stable:
            assert isinstance(order, Order)
            assert order.action in ("all", "back")
            assert at.stable in (before.candidate, before.previous)
        if at.watched is not None:
            assert rules.back(at).watched is None, "there is always a way back"


# --- Judged --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "taken_back"),
    [
        (Figures(), False),
        (Figures(1, 1), False),
        (Figures(2, 2), False),  # two unlucky calls
        (Figures(3, 2), False),
        (Figures(10, 2), False),
        (Figures(3, 3), True),  # it always fails
        (Figures(5, 4), True),
        (Figures(100, 5), False),  # at its limit
        (Figures(100, 10), False),  # may be chance
        (Figures(100, 15), True),
        (Figures(10_000, 560), False),
        (Figures(10_000, 600), True),
        (Figures(1_000_000, 50_500), False),
        (Figures(1_000_000, 51_000), True),
        (Figures(100, 0, keys_taken=1000, keys_lost=10), False),
        (Figures(100, 0, keys_taken=1000, keys_lost=30), True),
        (Figures(100, 0, keys_taken=99, keys_lost=1), False),
        (Figures(2, 0, keys_taken=0, keys_lost=9), False),  # too few calls
        (Figures(3, 5), True),  # read while they are counted
    ],
)
def test_a_version_is_taken_back_when_it_is_certainly_beyond(
    figures: Figures, taken_back: bool
) -> None:
    assert judge(figures, Limits()).fall_back is taken_back


def test_the_reason_tells_the_figures() -> None:
    assert judge(Figures(12, 9), Limits()).reason == "9 of 12 calls failed: 75 %, the limit is 5 %"
    lost = judge(Figures(50, 0, 90, 10), Limits(loss_percent=0.5))
    assert lost.reason == "10 of 100 keys were lost: 10 %, the limit is 0.5 %"


@pytest.mark.parametrize("count", [1, 7, 40, 300])
@pytest.mark.parametrize("limit", [0.001, 0.05, 0.5, 1.0])
def test_the_tail_is_the_binomials(count: int, limit: float) -> None:
    for bad in range(count + 1):
        tail = sum(
            comb(count, k) * limit**k * (1 - limit) ** (count - k) for k in range(bad, count + 1)
        )
        if abs(tail / rules.CHANCE - 1) > 1e-6:
            assert rules.beyond(bad, count, limit) == (tail < rules.CHANCE), (bad, tail)


@given(st.integers(0, 100_000), st.floats(0.0001, 1), st.data())
def test_more_failures_are_never_better(count: int, limit: float, data: st.DataObject) -> None:
    bad = data.draw(st.integers(0, count))
    if rules.beyond(bad, count, limit):
        assert rules.beyond(min(bad + 1, count), count, limit)
        assert not rules.beyond(0, count, limit)


def test_figures_since_the_step_began() -> None:
    assert Figures(10, 2, 30, 1).since(Figures(7, 1, 30, 0)) == Figures(3, 1, 0, 1)
    assert Figures(2, 0, 0, 0).since(Figures(7, 1, 5, 5)) == Figures(2, 0, 0, 0), "set back"
