"""What can be played: whose a sound is, and in which form it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import BadRequest
from backend.media.pcm import wav_bytes
from backend.ports import PromptAudio, PromptSound
from backend.speech.cache import PromptCache
from backend.speech.prompts import AsterisksSound, SoundBook
from tests.fakes.speech import FakeSynthesizer

PCM = bytes(range(200)) * 8


@pytest.fixture
def book(tmp_path: Path) -> SoundBook:
    folder = tmp_path / "sounds"
    cache = PromptCache(folder, FakeSynthesizer())
    return SoundBook(cache, folder, lambda path: f"/asterisk/{path.stem}")


def audio(book: SoundBook, name: str) -> PromptAudio:
    found = book.sound(name).audio()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("file", "data", "rate_hz", "length"),
    [
        ("a.wav", wav_bytes(PCM), 8000, 1600),
        ("a.wav", wav_bytes(PCM, 24_000), 24_000, 1600),
        ("a.sln", PCM + b"\x00", 8000, 1600),
        ("a.sln16", PCM, 16_000, 1600),
        ("a.alaw", PCM, 8000, 3200),
        ("a.ulaw", PCM, 8000, 3200),
    ],
)
def test_the_backends_own(
    book: SoundBook, tmp_path: Path, file: str, data: bytes, rate_hz: int, length: int
) -> None:
    (tmp_path / "sounds" / file).write_bytes(data)
    found = audio(book, "a")
    assert found.rate_hz == rate_hz
    assert len(found.read(0, 9999) or b"") == length
    assert found.read(length, 1) is None
    assert book.sound("a").file() == "/asterisk/a"


def test_a_file_is_read_once_until_it_changes(book: SoundBook, tmp_path: Path) -> None:
    file = tmp_path / "sounds" / "a.wav"
    file.write_bytes(wav_bytes(PCM))
    first = audio(book, "a")
    assert audio(book, "a") is first
    file.write_bytes(wav_bytes(PCM * 2))
    assert len(audio(book, "a").read(0, 9999) or b"") == 3200


def test_in_a_folder_of_its_own(book: SoundBook, tmp_path: Path) -> None:
    (tmp_path / "sounds" / "ru").mkdir()
    (tmp_path / "sounds" / "ru" / "hello.wav").write_bytes(wav_bytes(PCM))
    assert audio(book, "ru/hello").rate_hz == 8000


@pytest.mark.parametrize("name", ["none", "a.wav", "../outside", "/tmp/outside", "", "ru//a", "."])
def test_every_other_name_is_asterisks(book: SoundBook, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.wav").write_bytes(wav_bytes(PCM))
    (tmp_path / "sounds" / "a.wav").write_bytes(wav_bytes(PCM))
    found: PromptSound = book.sound(name)
    assert found == AsterisksSound(name)
    assert (found.audio(), found.file()) == (None, name)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (wav_bytes(PCM, 44_100), "44100 Hz; expected one of 8000, 16000"),
        (b"RIFF", "no WAV file"),
        (wav_bytes(PCM).replace(b"\x01\x00\x01\x00", b"\x01\x00\x02\x00", 1), "2 channels"),
    ],
)
def test_a_file_that_cannot_be_streamed_is_named(
    book: SoundBook, tmp_path: Path, data: bytes, why: str
) -> None:
    (tmp_path / "sounds" / "a.wav").write_bytes(data)
    with pytest.raises(BadRequest, match=r"a\.wav") as raised:
        book.sound("a").audio()
    assert why in str(raised.value)


def test_a_text_in_both_forms(book: SoundBook) -> None:
    sound = book.text("Hello", "en-US")
    name = sound.file()
    found = sound.audio()
    assert name.startswith("/asterisk/")
    assert found is not None
    assert len(found.read(0, 99_999) or b"") == 16_000
