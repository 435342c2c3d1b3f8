"""The table of tones: what came with the package, and what an admin may get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import ConfigError
from backend.media.tone_table import BUILT_IN, ToneKind, load, parse

LEAST = "[common]\n[default]\n[xx.busy]\nhz = [425]\n"


def test_the_table_of_the_package() -> None:
    table = load()
    assert table.countries.keys() >= {"ru", "kz", "by", "ua", "us", "gb", "de", "fr", "default"}
    for country in table.countries.keys() - {"common"}:
        kinds = {tone.kind for tone in table.of(country)}
        assert kinds >= set(ToneKind) - {ToneKind.UNOBTAINABLE}, country
    assert table.of("RU") == table.of("ru")
    assert table.of("zz") == table.of("default")
    assert [tone.kind for tone in table.of("kz")] == [tone.kind for tone in table.of("ru")]
    busy = next(tone for tone in table.of("ua") if tone.kind is ToneKind.BUSY)
    assert busy.cells[0].on_ms == 400


def test_an_admins_file(tmp_path: Path) -> None:
    file = tmp_path / "tones.toml"
    file.write_text(BUILT_IN.read_text().replace("[350, 350]", "[300, 300]"))
    busy = next(tone for tone in load(file).of("ru") if tone.kind is ToneKind.BUSY)
    assert (busy.cells[0].on_ms, busy.bursts) == (300, 3)
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"tones\.toml: cannot be read"):
        load(file)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a = ?", r"f: not valid TOML: Invalid value \(at line 1, column 5\)"),
        ("[common]\n", r"f: there is no entry \[default\]"),
        ("[common]\n[default]\nru = 5", r"f: default\.ru: no such tone; known: ringback, busy"),
        ("ru = 5\n[common]\n[default]", r"f: ru: expected a table of tones, \[ru\]"),
        ("[common]\n[default]\n[ru]\nlike = 'ru'", r"f: ru\.like: 'ru' is no other entry"),
        ("[common]\n[default]\n[a]\nlike = 'b'\n[b]\nlike = 'a'", r"like: 'a' is no other entry"),
        ("[common]\n[default]\n[ru]\nbusy = 5", r"f: ru\.busy: expected a table, \[ru\.busy\]"),
        (LEAST, r"f: xx\.busy: expected exactly one of .* found none"),
        (LEAST + "cadence_ms = [1]\ncontinuous_ms = 5", r"found cadence_ms, continuous_ms"),
        (LEAST + "cadense_ms = [350, 350]", r"f: xx\.busy\.cadense_ms: no such key; known: bursts"),
        (LEAST + "cadence_ms = [350]", r"f: xx\.busy\.cadence_ms: 1 lengths; expected on, off"),
        (LEAST + "cadence_ms = []", r"cadence_ms: 0 lengths"),
        (LEAST + "cadence_ms = [350, 20]", r"cadence_ms: 20; expected a number from 60 to 20000"),
        (LEAST + "cadence_ms = 350", r"cadence_ms: 350; expected a list of numbers"),
        (LEAST + "cadence_ms = ['a', 350]", r"cadence_ms: 'a'; expected a number"),
        (LEAST + "cadence_ms = [true, 350]", r"cadence_ms: True; expected a number"),
        (LEAST + "cadence_ms = [350, 350]\nlimits_ms = [[1, 2]]", r"limits_ms: expected 2 pairs"),
        (
            LEAST + "cadence_ms = [350, 350]\nlimits_ms = [[400, 500], [1, 500]]",
            r"f: xx\.busy\.limits_ms\[0\]: the nominal 350 ms lies outside of 400 to 500",
        ),
        (
            LEAST + "cadence_ms = [350, 350]\nlimits_ms = [[300, 400], [400, 300]]",
            r"limits_ms\[1\]: .* expected \[least, most\]",
        ),
        (LEAST + "cadence_ms = [350, 350]\nbursts = 0", r"bursts: 0; expected a number from 1"),
        (LEAST + "cadence_ms = [350, 350]\nspread_hz = 90", r"spread_hz: 90; expected .* 0 to 50"),
        (LEAST + "continuous_ms = 50", r"continuous_ms: 50; expected a number from 300"),
        ("[common]\n[default.busy]\ncontinuous_ms = 500", r"f: default\.busy\.hz: None; expected"),
        (
            "[common]\n[default.busy]\nhz = [425, 425]\ncontinuous_ms = 500",
            r"hz: \[425, 425\]; expected 1 to 3 frequencies, 20 Hz apart",
        ),
        (
            "[common]\n[default.dial]\nhz = [425]\ncontinuous_ms = 3000\n"
            "[default.unobtainable]\nhz = [425]\ncontinuous_ms = 2000",
            "f: default: dial and unobtainable may sound the same",
        ),
        (
            "[common]\n[default.busy]\nhz = [425]\ncadence_ms = [350, 350]\n"
            "[default.congestion]\nhz = [425]\ncadence_ms = [250, 250]",
            "f: default: busy and congestion may sound the same",
        ),
        ("[common.sit]\nsequence_hz = [950]\n[default]", r"sequence_hz: 1 tones; expected 2 to 4"),
        ("[common.sit]\nsequence_hz = [950, 1400]\n[default]", r"common\.sit\.each_ms: None"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        parse(text, "f")


def test_limits_without_being_told() -> None:
    table = parse("[common]\n[default.busy]\nhz = [425]\ncadence_ms = [100, 1000]", "f")
    (tone,) = table.of("ru")
    assert (tone.cells[0].on.least_ms, tone.cells[0].on.most_ms) == (60, 140)
    assert (tone.cells[0].off.least_ms, tone.cells[0].off.most_ms) == (800, 1200)
