"""docs/figures.md, docs/bus.md and the alert rules against the code: names, kinds, examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from backend.bus import event
from backend.bus.publisher import NoBus, Publisher
from backend.config import Settings
from backend.http_figures import Figures
from backend.http_flow_figures import ALARMS, VERDICTS
from tests.fakes.bus import FakeBus
from tests.test_docs import ticked
from tests.test_http_figures import FakeOverview, Seen

DOCS = Path(__file__).parents[1] / "docs"
FIGURES = (DOCS / "figures.md").read_text(encoding="utf-8")
BUS = (DOCS / "bus.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((DOCS / "prometheus" / "asterisk-dialog.rules.yml").read_text("utf-8"))
SCHEMA = json.loads(Path(event.__file__).with_name("event.schema.json").read_text("utf-8"))
METRIC = re.compile(r"\bdialog_[a-z_]+\b")


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def exported() -> set[str]:
    """Names of the samples of flows and of the bus, when there is something of everything."""
    one = {
        "prompts_blocked": 1.0,
        "keys_taken": 1.0,
        "switch_le_0.02": 1.0,
        "opening_error_le_0.02": 1.0,
    }
    seen = Seen("voice-0", Publisher(FakeBus(), 100).figures())
    pay = "pay", "ab12"
    text = Figures(FakeOverview({pay: one}, [seen], {pay: 100.0})).text().decode()
    return {
        sample.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if {"flow", "version"} <= sample.labels.keys() or sample.name.startswith("dialog_bus_")
    }


def bare(name: str) -> str:
    """Of a histogram's series, its name."""
    return re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name)


def rows(text: str, head: str) -> list[list[str]]:
    """The cells of the table whose first head is ``head``."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {head} |"):
            next(lines)
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    assert found, head
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_figures_that_exist(rule: dict[str, Any]) -> None:
    names = METRIC.findall(rule["expr"])
    assert names
    assert set(names) <= exported()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["expr"].count("(") == rule["expr"].count(")")
    for label, values in re.findall(r'(verdict|alarm|reason)=~?"([^"]+)"', rule["expr"]):
        known = {"verdict": VERDICTS, "alarm": ALARMS, "reason": ("full", "failed", "timed_out")}
        assert set(values.split("|")) <= set(known[label])


def test_every_alarm_is_explained_and_is_a_rule() -> None:
    told = {ticked(row[0])[0]: row[-1].split()[0] for row in rows(FIGURES, "alarm")}
    assert told == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}


def test_every_figure_is_explained_and_every_explanation_is_one() -> None:
    explained = {
        METRIC.findall(row[0])[0]
        for row in [
            *rows(FIGURES, "figure"),
            *rows(FIGURES[FIGURES.index("## The bus") :], "figure"),
        ]
    }
    assert explained == {bare(name) for name in exported()}


def test_the_questions_to_prometheus_ask_for_figures_that_exist() -> None:
    asked = {
        name
        for block in re.findall(r"^```\n(.*?)^```", FIGURES, re.M | re.S)
        for name in METRIC.findall(block)
    }
    assert asked
    assert asked <= exported()


def test_every_verdict_and_alarm_is_explained() -> None:
    told = [name for row in rows(FIGURES, "`verdict`") for name in ticked(row[0])]
    assert sorted(told) == sorted(VERDICTS)
    assert all(f"`{alarm}`" in FIGURES for alarm in ALARMS)


def test_the_example_event_is_valid() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", BUS, re.M | re.S)
    jsonschema.validate(json.loads(example), SCHEMA, jsonschema.Draft202012Validator)


def test_every_member_and_kind_is_explained() -> None:
    members = [name for row in rows(BUS, "member") for name in ticked(row[0])]
    assert sorted(members) == sorted(SCHEMA["properties"])
    kinds = [name for row in rows(BUS, "kind") for name in ticked(row[0])]
    assert sorted(kinds) == sorted(SCHEMA["properties"]["kind"]["enum"])


def test_what_the_bus_page_says_of_the_settings() -> None:
    defaults = {name: Settings.model_fields[name].default for name in ("bus_queue", "bus_topic")}
    assert f"{defaults['bus_queue']:,}" in BUS
    assert f"`{defaults['bus_topic']}`" in BUS
    reasons = {name.removeprefix("bus_dropped_") for name in Publisher(FakeBus(), 1).figures()}
    assert all(f"`{name}` (" in BUS for name in reasons if not name.startswith("bus_"))
    assert NoBus().figures() == {}
