"""Call-progress tones as Asterisk makes them, through forks: a call for each, all at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backend.media.tone_table import ToneKind, load
from backend.media.tones import ToneDetector, ToneStarted
from tests.e2e.fork_lab import ForkLab

TABLE = load()
HEARD_MS = 8000
# Lists of tones of Asterisk's indications.conf, and of tones that it does not have.
TONES: dict[str, tuple[str, str, ToneKind]] = {
    "ru-ring": ("ru", "425/1000,0/4000", ToneKind.RINGBACK),
    "ru-busy": ("ru", "425/350,0/350", ToneKind.BUSY),
    "ru-congestion": ("ru", "425/175,0/175", ToneKind.CONGESTION),
    "ru-info": ("ru", "950/330,1400/330,1800/330,0/9000", ToneKind.SIT),
    "us-ring": ("us", "440+480/2000,0/4000", ToneKind.RINGBACK),
    "us-busy": ("us", "480+620/500,0/500", ToneKind.BUSY),
    "us-dial": ("us", "350+440", ToneKind.DIAL),
    "uk-ring": ("gb", "400+450/400,0/200,400+450/400,0/2000", ToneKind.RINGBACK),
    "uk-congestion": ("gb", "400/400,0/350,400/225,0/525", ToneKind.CONGESTION),
    "uk-unobtainable": ("gb", "400", ToneKind.UNOBTAINABLE),
    "de-busy": ("de", "425/480,0/480", ToneKind.BUSY),
    "fr-ring": ("fr", "440/1500,0/3500", ToneKind.RINGBACK),
    "elsewhere": ("default", "425/500,0/500", ToneKind.BUSY),
    "fax-calls": ("ru", "1100/500,0/3000", ToneKind.CNG),
    "fax-answers": ("ru", "0/200,2100/3000,0/9000", ToneKind.CED),
}


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory, asterisk: str) -> Iterator[ForkLab]:
    with ForkLab(tmp_path_factory.mktemp("tones"), asterisk) as one:
        yield one


def test_each_is_heard_as_what_it_is(fork: ForkLab) -> None:
    with fork.story():
        for name, (_, tones, _) in TONES.items():
            fork.call(
                fork.server.url(name),
                "D(in)",
                near="",
                far="tones",
                __LAB_TONES=tones.replace(",", "|"),  # AMI would split it
            )
        heard = {}
        for name, (country, _, _) in TONES.items():
            frames = fork.server.frames(name, HEARD_MS // 20, timeout_s=30).frames
            pcm = b"".join(frames[: HEARD_MS // 20])
            events = ToneDetector(TABLE.of(country)).feed(pcm)
            heard[name] = [event.kind for event in events if isinstance(event, ToneStarted)]
        fork.hangup_all()
        assert heard == {name: [kind] for name, (_, _, kind) in TONES.items()}
