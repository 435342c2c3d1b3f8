"""The tables of dial_screened as the settings name them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.app.screening import open_judges
from backend.config import Settings
from backend.doctor import check_tables
from backend.errors import ConfigError
from backend.media.phrases import BUILT_IN as ANNOUNCEMENTS
from backend.media.screening import ScreenResult
from backend.media.tone_table import BUILT_IN as TONES
from tests.fixtures_speech import line_noise


@dataclass(frozen=True)
class Wishes:
    timeout_ms: int = 30_000
    who_answered: bool = True


def test_judges_share_the_tables_and_nothing_else() -> None:
    make = open_judges(Settings())
    one, other = make(Wishes()), make(Wishes(who_answered=False))
    assert one.signalled("answered", 100) is None
    verdict = other.signalled("answered", 100)
    assert verdict is not None
    assert verdict.result is ScreenResult.ANSWERED
    verdict = one.recognised("номер не существует и не был", 900, final=True)
    assert verdict is not None
    assert verdict.result is ScreenResult.NO_SUCH_NUMBER
    with pytest.raises(ValueError, match="gone"):
        make(Wishes()).signalled("gone", 0)


def test_the_settings_count(tmp_path: Path) -> None:
    tones, words = tmp_path / "t.toml", tmp_path / "a.toml"
    tones.write_text(TONES.read_text().replace("[fr]", "[xx]").replace("[fr.", "[xx."))
    words.write_text('[ru]\nbusy = ["тарам парам"]\n')
    settings = Settings(
        tones_country="XX",
        tones_file=tones,
        announcements_file=words,
        answer_initial_silence_ms=500,
    )
    judge = open_judges(settings)(Wishes(timeout_ms=5000))
    assert judge.recognised("парам тарам и тарам", 100, final=True) is not None
    judge = open_judges(settings)(Wishes(timeout_ms=5000))
    assert judge.tick(4999) is None
    assert judge.signalled("answered", 4999) is None
    verdict = judge.feed(line_noise(500), 5500)
    assert verdict is not None
    assert verdict.result is ScreenResult.SILENCE


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tones_country": "zz"}, "tones_country: 'zz' is not in the table of this package; known"),
        ({"tones_country": "common"}, "tones_country: 'common' is not in"),
        ({"tones_file": Path("/absent.toml")}, r"/absent\.toml: cannot be read"),
        ({"announcements_file": TONES}, r"tones\.toml: common\.name: no such class"),
        ({"tones_file": ANNOUNCEMENTS}, r"announcements\.toml: there is no entry \[common\]"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(settings: dict[str, object], error: str) -> None:
    made = Settings.model_validate(settings)
    with pytest.raises(ConfigError, match=error):
        open_judges(made)
    (finding,) = check_tables(made)
    assert not finding.ok
    assert re.search(error, finding.what)


def test_the_doctor_looks_at_them() -> None:
    (finding,) = check_tables(Settings(tones_country="kz"))
    assert (finding.ok, finding.what) == (True, "tones of kz, announcements")
