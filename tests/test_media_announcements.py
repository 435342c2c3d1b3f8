"""Announcements by their words. How many of a whole set: test_screening_accuracy.py."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import ConfigError
from backend.media.announcements import SETTLE_MS, Announced, AnnouncementReader
from backend.media.phrases import BUILT_IN, Phrases, Said, load, normal_words, parse

PHRASES = load()
SET = tomllib.loads(
    (Path(__file__).parent / "vectors" / "announcements.toml").read_text(encoding="utf-8")
)
TEXTS = [text for classes in SET.values() for texts in classes.values() for text in texts]


def said(text: str, *languages: str, phrases: Phrases = PHRASES) -> Said | None:
    match = phrases.best(normal_words(text), languages)
    return match.pattern.said if match else None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Абонент, ЗАНЯТ!", ["абонент", "занят"]),
        ("идёт ещё-ли", ["идет", "еще", "ли"]),
        ("can’t Don't 'so'", ["can't", "don't", "so"]),
        ("", []),
        ("… — 8 (916)", ["8", "916"]),
        ("нөмір ЖОҚ_", ["нөмір", "жоқ"]),
        ("да, да! Да не да", ["да", "не", "да"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert normal_words(text) == words


def test_the_longest_pattern_wins() -> None:
    assert said("телефон абонента выключен") is Said.SWITCHED_OFF
    assert said("телефон абонента выключен или находится вне зоны действия сети") is (
        Said.UNAVAILABLE
    )
    assert said("находится вне зоны действия сети") is Said.OUT_OF_COVERAGE
    assert said("абонент занят") is Said.BUSY
    assert said("абонент занят оставайтесь на линии") is Said.PLEASE_WAIT
    assert said("абонент не отвечает оставьте сообщение после сигнала") is Said.VOICEMAIL


def test_order_endings_and_a_wrong_letter() -> None:
    assert said("недоступен временно этот абонент") is Said.UNAVAILABLE
    assert said("абоненты временно недоступны") is Said.UNAVAILABLE
    assert said("абанент временно недаступен") is Said.UNAVAILABLE
    assert said("временно не-доступен абонент") is Said.UNAVAILABLE
    assert said("отвечает не абонент") is None  # "не+отвечает": side by side, in this order
    assert said("абонент занад") is None  # short words are taken as they are


def test_words_far_apart_do_not_count() -> None:
    between = "раз два три четыре пять шесть семь восемь".split()  # noqa: SIM905
    assert said(" ".join(["абонент", *between[:5], "занят"])) is Said.BUSY
    assert said(" ".join(["абонент", *between, "занят"])) is None


def test_languages() -> None:
    assert said("please leave a message", "en-US") is Said.VOICEMAIL
    assert said("please leave a message", "ru-RU", "kk-KZ") is None
    assert said("абонент қазір қолжетімсіз", "ru-RU", "kk-KZ") is Said.UNAVAILABLE


def test_one_word_of_a_text_is_not_two_of_a_pattern() -> None:
    phrases = parse('[ru]\nbusy = ["занят* занято*"]', "f")
    assert said("занято", phrases=phrases) is None
    assert said("занято занят", phrases=phrases) is Said.BUSY


# Reading while it is spoken


def partials(text: str, reader: AnnouncementReader | None = None) -> list[tuple[Said, int]]:
    """The verdicts and after how many words, the last text being the final."""
    reader = reader or AnnouncementReader(PHRASES)
    words, found = text.split(), []
    for n in range(1, len(words) + 1):
        verdict = reader.heard(" ".join(words[:n]), final=n == len(words), at_ms=n * 300)
        if verdict is not None:
            found.append((verdict.said, n))
    return found


def test_certain_before_the_end() -> None:
    text = "набранный вами номер не существует проверьте его и наберите снова"
    assert partials(text) == [(Said.NO_SUCH_NUMBER, 6)]  # confirmed by the next text


def test_a_longer_pattern_is_awaited() -> None:
    text = "телефон абонента выключен или находится вне зоны действия сети"
    assert partials(text) == [(Said.UNAVAILABLE, 8)]
    reader = AnnouncementReader(PHRASES)
    assert partials("телефон абонента выключен", reader) == []
    assert reader.tick(900 + SETTLE_MS - 1) is None
    verdict = reader.tick(900 + SETTLE_MS)
    assert verdict is not None
    assert (verdict.said, verdict.words) == (Said.SWITCHED_OFF, "телефон абонента выключен")
    assert (verdict.at_ms, verdict.size, verdict.language) == (900 + SETTLE_MS, 3, "ru")
    assert reader.tick(60_000) is None


def test_the_longer_pattern_in_the_next_utterance() -> None:
    reader = AnnouncementReader(PHRASES)
    assert reader.heard("Абонент занят.", final=True, at_ms=1000) is None
    verdict = reader.heard("Оставайтесь на линии.", final=True, at_ms=2000)
    assert verdict is not None
    assert verdict.said is Said.PLEASE_WAIT


def test_when_no_text_comes_any_more() -> None:
    reader = AnnouncementReader(PHRASES)
    assert reader.close(0) is None
    assert reader.heard("абонент занят", final=False, at_ms=1000) is None
    verdict = reader.close(1200)
    assert verdict is not None
    assert (verdict.said, verdict.at_ms) == (Said.BUSY, 1200)


def test_a_partial_that_is_taken_back_does_not_count() -> None:
    reader = AnnouncementReader(PHRASES)
    assert reader.heard("номер не существует", final=False, at_ms=300) is None
    assert reader.heard("номер не сущий пустяк", final=False, at_ms=600) is None
    assert reader.tick(9000) is None


def test_what_is_repeated_is_told_once_and_something_else_too() -> None:
    reader = AnnouncementReader(PHRASES)
    loop = "набранный номер не существует"
    assert [said for said, _ in partials(f"{loop} {loop} {loop}", reader)] == [Said.NO_SUCH_NUMBER]
    assert partials(loop, reader) == []
    assert [said for said, _ in partials("ведётся запись разговора", reader)] == [
        Said.RECORDING_NOTICE
    ]


def test_hours_of_talk_are_not_kept() -> None:
    reader = AnnouncementReader(PHRASES)
    for n in range(1000):
        assert reader.heard("и так далее и тому подобное", final=True, at_ms=n * 1000) is None
    assert len(reader.text.split()) <= 70
    assert partials("номер не существует", reader) == [(Said.NO_SUCH_NUMBER, 3)]


def verdicts(text: str, keep: list[bool]) -> list[Said]:
    """With the partials that are kept, the final, and silence after it."""
    reader, words = AnnouncementReader(PHRASES), text.split()
    found: list[Announced | None] = [
        reader.heard(" ".join(words[:n]), final=False, at_ms=n * 300)
        for n in range(1, len(words))
        if keep[n % len(keep)]
    ]
    found.append(reader.heard(text, final=True, at_ms=len(words) * 300))
    found.append(reader.tick(len(words) * 300 + SETTLE_MS))
    return [verdict.said for verdict in found if verdict is not None]


@given(st.sampled_from(TEXTS), st.lists(st.booleans(), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_the_verdict_does_not_depend_on_the_partials(text: str, keep: list[bool]) -> None:
    assert verdicts(text, keep) == verdicts(text, [False])


@given(st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=40))
@settings(max_examples=100, deadline=None)
def test_whatever_is_said_a_class_comes_once(words: list[str]) -> None:
    found = [said for said, _ in partials(" ".join(words))] if words else []
    assert len(set(found)) == len(found)


# The file


def test_every_pattern_is_found_in_its_own_words() -> None:
    for pattern in PHRASES.patterns:
        words = [word.rstrip("*") for slot in pattern.slots for word in slot[0]]
        match = PHRASES.best(words, [pattern.language])
        assert match is not None
        assert match.pattern.weight >= pattern.weight, pattern.text


def test_an_admins_file(tmp_path: Path) -> None:
    file = tmp_path / "words.toml"
    file.write_text(BUILT_IN.read_text(encoding="utf-8") + '\n[uk]\nbusy = ["зайнят*"]\n')
    assert said("абонент зайнятий", phrases=load(file)) is Said.BUSY
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[ru", "f: not valid TOML: "),
        ("", "f: there is no pattern in it"),
        ("ru = 5", r"f: ru: expected a table of classes, \[ru\]"),
        ("[ru]\nbussy = []", r"f: ru\.bussy: no such class; known: unavailable, switched_off"),
        ("[ru]\nbusy = 'занят'", r"f: ru\.busy: expected a list of patterns"),
        ("[ru]\nbusy = ['a', '']", r"f: ru\.busy\[1\]: ''; expected words"),
        ("[ru]\nbusy = [5]", r"f: ru\.busy\[0\]: 5; expected words"),
        ("[ru]\nbusy = ['a ||b']", r"f: ru\.busy\[0\]: 'a \|\|b': '' is no word"),
        ("[ru]\nbusy = ['a* *b']", r"'\*b' is no word \(letters, digits, \* at its end\)"),
        ("[ru]\nbusy = ['не+']", r"'' is no word"),
        ("[ru]\nbusy = ['*']", r"'\*' is no word"),
        ("[ru]\nbusy = ['a b c d e f g h i j k l m']", r"busy\[0\]: 13 words; expected 12 at most"),
    ],
)
def test_what_is_wrong_is_named(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        parse(text, "f")
