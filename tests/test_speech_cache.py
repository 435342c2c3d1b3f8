"""The prompt cache."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.errors import SynthesisUnavailable
from backend.ports import PromptAudio
from backend.speech import making
from backend.speech.cache import PromptCache, length_ms
from tests.fakes.speech import FakeSynthesizer, spoken

OLD = time.time() - 3_600


def ask(cache: PromptCache, text: str, timeout_s: float = 5) -> Path:
    return cache.path(text, language="en-US", timeout_s=timeout_s)


def test_made_once_then_found(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer()
    cache = PromptCache(tmp_path / "prompts", synthesizer)
    path = ask(cache, "Hello,  world")
    assert path.suffix == ".sln"
    assert length_ms(path) == 1_000
    assert ask(cache, " Hello, world ") == path
    assert ask(PromptCache(tmp_path / "prompts", synthesizer), "Hello, world") == path
    assert synthesizer.texts == ["Hello, world"]


def test_the_key_holds_all_that_makes_the_sound(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer()
    first = PromptCache(tmp_path, synthesizer, identity=lambda language: "marina")
    second = PromptCache(tmp_path, synthesizer, identity=lambda language: "john")
    paths = {
        first.path("x", language="ru-RU", timeout_s=1),
        first.path("x", language="en-US", timeout_s=1),
        first.path("y", language="ru-RU", timeout_s=1),
        second.path("x", language="ru-RU", timeout_s=1),
    }
    assert len(paths) == 4


def test_asterisk_may_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = ask(PromptCache(tmp_path / "a" / "b", FakeSynthesizer()), "x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_many_ask_one_makes(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer()
    synthesizer.gate.clear()
    cache = PromptCache(tmp_path, synthesizer)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask, cache, "x") for _ in range(8)]
        synthesizer.gate.set()
        assert len({future.result(5) for future in futures}) == 1
    assert synthesizer.texts == ["x"]


def test_waiting_has_a_deadline(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer()
    synthesizer.gate.clear()
    cache = PromptCache(tmp_path, synthesizer)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, cache, "x")
        while not synthesizer.texts:
            threading.Event().wait(0.001)
        with pytest.raises(SynthesisUnavailable, match=r"no sound for 0\.05 s"):
            ask(cache, "x", timeout_s=0.05)
        synthesizer.gate.set()
        assert first.result(5).exists()


def heard(audio: PromptAudio, timeout_s: float = 5) -> bytes:
    """All of it, as it comes."""
    found, deadline = b"", time.monotonic() + timeout_s
    while (pcm := audio.read(len(found), 3200)) is not None:
        found += pcm
        assert time.monotonic() < deadline
    return found


def test_what_is_being_made_is_heard_meanwhile_and_kept_when_whole(tmp_path: Path) -> None:
    go_on, more = threading.Event(), threading.Event()

    class Halting(FakeSynthesizer):
        def stream(self, text: str, *, language: str, timeout_s: float) -> Iterator[bytes]:
            self.texts.append(text)
            yield spoken(1, 10)
            assert go_on.wait(5)
            yield spoken(2, 10)

    cache = PromptCache(tmp_path, Halting())
    audio = cache.audio("x", language="en-US")
    audio.subscribe(more.set)
    assert cache.audio("x", language="en-US") is audio, "made once"
    while audio.read(0, 20) == b"":
        assert more.wait(5)
    assert audio.read(0, 99_999) == spoken(1, 10)
    assert audio.read(3200, 99_999) == b""
    assert list(tmp_path.iterdir()) == [], "not before it is whole"
    go_on.set()
    assert heard(audio) == spoken(1, 10) + spoken(2, 10)
    assert ask(cache, "x").read_bytes() == heard(audio)
    cache.close()
    again = cache.audio("x", language="en-US")
    assert again is not audio
    assert heard(again) == heard(audio)


def test_audio_that_fails_tells_its_players(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path, FakeSynthesizer(SynthesisUnavailable("away")))
    with pytest.raises(SynthesisUnavailable, match="away"):
        heard(cache.audio("x", language="en-US"))


def test_a_prompt_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "MAX_BYTES", 10_000)
    cache = PromptCache(tmp_path, FakeSynthesizer())
    with pytest.raises(SynthesisUnavailable, match="longer than"):
        heard(cache.audio("x", language="en-US"))
    cache.close()


def test_files_of_other_names_are_never_deleted(tmp_path: Path) -> None:
    own = tmp_path / "promo.sln"
    own.write_bytes(bytes(64_000))
    os.utime(own, (OLD, OLD))
    cache = PromptCache(tmp_path, FakeSynthesizer(), max_bytes=10_000)
    ask(cache, "x")
    assert own.exists()


def test_a_failure_is_told_and_not_kept(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer(SynthesisUnavailable("away"))
    cache = PromptCache(tmp_path, synthesizer)
    with pytest.raises(SynthesisUnavailable, match="away"):
        ask(cache, "x")
    assert list(tmp_path.iterdir()) == []
    synthesizer.error = None
    assert ask(cache, "x").exists()


def test_what_the_synthesizer_should_not_raise(tmp_path: Path) -> None:
    synthesizer = FakeSynthesizer(ZeroDivisionError())
    cache = PromptCache(tmp_path, synthesizer)
    with pytest.raises(SynthesisUnavailable, match="the synthesiser failed"):
        ask(cache, "x")
    synthesizer.error = None
    assert ask(cache, "x").exists()


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path / "prompts", FakeSynthesizer())
    (tmp_path / "prompts").rmdir()
    with pytest.raises(SynthesisUnavailable, match="cannot write prompts"):
        ask(cache, "x")


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path, FakeSynthesizer(), max_bytes=5 * 16_000)
    paths = [ask(cache, f"text {n}") for n in range(5)]
    for age, path in enumerate(paths):
        os.utime(path, (OLD + age, OLD + age))
    assert ask(cache, "text 0") == paths[0]  # used again
    ask(cache, "one more")
    assert [path.exists() for path in paths] == [True, False, False, True, True]


def test_what_may_be_about_to_play_stays(tmp_path: Path) -> None:
    cache = PromptCache(tmp_path, FakeSynthesizer(), max_bytes=16_000)
    paths = [ask(cache, f"text {n}") for n in range(4)]
    assert all(path.exists() for path in paths)


def test_leftovers_of_a_killed_process_go_too(tmp_path: Path) -> None:
    left = tmp_path / "prompt-x.part"
    left.write_bytes(bytes(32_000))
    os.utime(left, (OLD, OLD))
    cache = PromptCache(tmp_path, FakeSynthesizer(), max_bytes=20_000)
    ask(cache, "x")
    assert not left.exists()


def test_a_blank_text_is_a_moment_of_silence(tmp_path: Path) -> None:
    class Nothing(FakeSynthesizer):
        def stream(self, text: str, *, language: str, timeout_s: float) -> Iterator[bytes]:
            return iter(())

    assert length_ms(ask(PromptCache(tmp_path, Nothing()), " ")) == 20
