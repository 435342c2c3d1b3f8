"""Which words are back-channel; the list that comes with the package, and lists that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.call.backchannel import Backchannel, Said, load, parse
from backend.config import Settings
from backend.doctor import check_backchannel
from backend.errors import ConfigError

BOOK = load()
RU, EN = BOOK.of(["ru-RU"]), BOOK.of(["en-US"])


@pytest.mark.parametrize(
    "text", ["угу", "Угу.", "ага, ага", "да-да", "да да", "Ну да", "угу, да-да, понятно", "М-гм…"]
)
def test_russian_words_that_stop_nothing(text: str) -> None:
    assert RU.judge(text, final=True) is Said.BACKCHANNEL


@pytest.mark.parametrize(
    "text", ["uh-huh", "Uh huh.", "mm-hmm", "Okay.", "OK, I see", "right, right", "yeah yeah"]
)
def test_english_words_that_stop_nothing(text: str) -> None:
    assert EN.judge(text, final=True) is Said.BACKCHANNEL


@pytest.mark.parametrize(
    "text", ["да", "нет", "алло", "да, но", "угу, оператор", "не понятно", "стоп"]
)
def test_russian_words_that_are_speech(text: str) -> None:
    assert RU.judge(text, final=True) is Said.SPEECH


@pytest.mark.parametrize(
    "text", ["yes", "yeah", "no", "hello", "okay but wait", "stop", "I", "i see no"]
)
def test_english_words_that_are_speech(text: str) -> None:
    assert EN.judge(text, final=True) is Said.SPEECH


@pytest.mark.parametrize("text", ["", " ", "…", "-", "'"])
def test_no_word_is_nothing(text: str) -> None:
    assert EN.judge(text, final=True) is Said.NOTHING
    assert EN.judge(text, final=False) is Said.NOTHING


def test_a_beginning_is_open_until_it_is_known_how_it_goes_on() -> None:
    assert RU.judge("да", final=False) is Said.OPEN
    assert RU.judge("угу да", final=False) is Said.OPEN
    assert EN.judge("i", final=False) is Said.OPEN
    assert EN.judge("i want", final=False) is Said.SPEECH
    assert EN.judge("yes", final=False) is Said.SPEECH


def test_several_languages_at_once_and_one_without_a_list() -> None:
    both = BOOK.of(["ru-RU", "en-US", "kk-KZ"])
    assert both.judge("угу okay", final=True) is Said.BACKCHANNEL
    assert BOOK.of(["kk-KZ"]).judge("угу", final=True) is Said.SPEECH
    assert Backchannel().judge("угу", final=True) is Said.SPEECH


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ru = [", "not valid TOML"),
        ('ru = "угу"', "ru: expected a list"),
        ("ru = [1]", "ru: expected a list"),
        ('ru = ["угу", "…"]', "holds no word"),
        ('ru-RU = ["угу"]', "expected a language"),
        ("[ru]\nwords = []", "ru: expected a list"),
        (f"ru = {['а' + 'б' * n for n in range(1001)]}", "over 1000"),
    ],
)
def test_a_wrong_list_says_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"f: .*{why}"):
        parse(text, "f")


def test_a_wrong_file_is_an_error_at_the_start_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backchannel_file .*missing"):
        load(tmp_path / "missing.toml")
    (tmp_path / "own.toml").write_text("en = 5")
    with pytest.raises(ConfigError, match=r"own\.toml: en: expected a list"):
        load(tmp_path / "own.toml")
    (tmp_path / "own.toml").write_text('en = ["roger"]')
    assert load(tmp_path / "own.toml").of(["en"]).judge("Roger!", final=True) is (Said.BACKCHANNEL)


def test_doctor_looks_at_the_file(tmp_path: Path) -> None:
    def told(file: Path | None) -> list[str]:
        settings = Settings(backchannel_file=file)
        return [f"{finding}" for finding in check_backchannel(settings)]

    assert told(None) == []
    (tmp_path / "own.toml").write_text('en = ["roger"]')
    assert len(told(tmp_path / "own.toml")) == 1
    (tmp_path / "own.toml").write_text("en = 5")
    assert "expected a list" in told(tmp_path / "own.toml")[0]
