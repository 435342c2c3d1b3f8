"""doctor_flows: pinned flows whose machines are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from backend.config import Settings
from backend.doctor_flows import check_pins
from backend.flow.published import FlowVersion
from backend.flow.rollout import Order
from backend.storage.flows import Flows
from backend.storage.upkeep import Instance, Instances


@pytest.fixture
def settings(dsn: str, tmp_path: Path) -> Settings:
    return Settings(database_url=SecretStr(dsn), data_dir=tmp_path)


def pin(engine: Engine, *nodes: str) -> None:
    flows = Flows(engine)
    flows.put(FlowVersion("menu", "v1", "x", "yaml"), priority="high", by="ann")
    assert flows.change("menu", Order("pin", nodes=nodes), by="ann") is not None


def test_nothing_is_said_of_flows_that_are_not_pinned(engine: Engine, settings: Settings) -> None:
    Flows(engine).put(FlowVersion("menu", "v1", "x", "yaml"), by="ann")
    assert list(check_pins(settings)) == []


def test_a_pinned_flow_whose_machine_is_alive(engine: Engine, settings: Settings) -> None:
    pin(engine, "a")
    Instances(engine).beat(Instance("a", "control"))
    assert [str(one) for one in check_pins(settings)] == ["ok    flow menu: pinned to a, alive"]


def test_a_machine_that_is_not_alive_is_named(engine: Engine, settings: Settings) -> None:
    pin(engine, "a", "b")
    Instances(engine).beat(Instance("a", "control"))
    Instances(engine).beat(Instance("b", "voice-0"))  # it dials nothing
    (found,) = check_pins(settings)
    assert (found.ok, found.what) == (False, "flow menu: pinned to a, b; no sign of b")
    assert "flow unpin menu" in found.mend


def test_nobody_dials_when_all_are_away(engine: Engine, settings: Settings) -> None:
    pin(engine, "a")
    (found,) = check_pins(settings)
    assert found.what == "flow menu: pinned to a; no sign of a, so nobody dials its tasks"


@pytest.mark.parametrize("url", ["postgresql://x@127.0.0.1:17998/x", None])
def test_where_postgresql_is_away_nothing_is_said(tmp_path: Path, url: str | None) -> None:
    secret = None if url is None else SecretStr(url)
    assert list(check_pins(Settings(database_url=secret, data_dir=tmp_path))) == []
    assert list(tmp_path.iterdir()) == [], "nothing is made"
