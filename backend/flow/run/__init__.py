"""Flows on a call: what is under backend/flow is pure but for this."""

from backend.flow.run.engine import flow_scenario

__all__ = ["flow_scenario"]
