"""The article's own dialplan lines, unchanged, with the article's names of the directions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_config import set_key
from stack import Stack

from tests.e2e.conftest import probing_stack


@pytest.fixture
def stack(tmp_path: Path, asterisk: str) -> Iterator[Stack]:
    with probing_stack(tmp_path, asterisk, DIALOG_CONTEXTS="lab-article") as stack:
        conf = stack.lab.pbx.home / "etc" / "audiofork.conf"
        conf.write_text(set_key(conf.read_text(), "direction_names", "dmarenin"))
        stack.lab.pbx.cli("module reload app_audiofork.so")
        yield stack


def test_the_articles_lines_work_as_they_did(stack: Stack) -> None:
    task = stack.ended(stack.originate("1000001", file="demo-thanks")["id"])
    assert (task["state"], task["result"]["decision"]) == ("done", "yes"), task
    assert stack.lab.pbx.log().count("AudioFork ") >= 1
    log = stack.log_path.read_text()
    assert "connected again" not in log, "one fork, not two"
    assert log.count("the fork takes no audio") == 1, "its prompts come from files, and it says so"
    assert "prompts are streamed" not in log
