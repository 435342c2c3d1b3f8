"""Calls that wait in their midst for the store's key "go on", while a version changes."""

from __future__ import annotations

from typing import Any

from stack import Stack

from backend.call.store import Store
from backend.storage.engine import make_engine
from backend.storage.store import KeyValues


def finish(stack: Stack, task: str, phone: str) -> Any:
    """Let it go on; what it returned."""
    engine = make_engine(stack.dsn, name="test")
    try:
        Store(KeyValues(engine), "test").set("go on", phone)
    finally:
        engine.dispose()
    ended = stack.ended(task)
    assert ended["state"] == "done", ended
    return ended["result"]


def loaded(stack: Stack, said: str, times: int) -> None:
    """Wait until each worker (and the web) has said so."""
    stack.wait_for(
        said, lambda: stack.log_path.read_text().count(said) >= times or None, timeout_s=60
    )
