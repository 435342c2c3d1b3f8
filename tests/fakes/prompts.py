"""Prompts without synthesis: a text is a tone's worth of bytes, a sound is Asterisk's."""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.errors import SpeechError
from backend.ports import PromptAudio
from backend.speech.making import WholePcm


@dataclass
class FakeSound:
    """A ports.PromptSound. ``pcm`` None: only Asterisk has it; ``error``: of its file."""

    name: str
    pcm: PromptAudio | None = None
    error: SpeechError | None = None

    def audio(self) -> PromptAudio | None:
        return self.pcm

    def file(self, timeout_s: float | None = None) -> str:
        if self.error is not None:
            raise self.error
        return self.name


@dataclass
class FakePrompts:
    """A ports.Prompts; a text's file is ``<language>:<text>``."""

    pcm: bytes = bytes(16 * 2000)
    own: dict[str, PromptAudio] = field(default_factory=dict)

    def text(self, text: str, language: str) -> FakeSound:
        return FakeSound(f"{language}:{text}", WholePcm(self.pcm))

    def sound(self, name: str) -> FakeSound:
        return FakeSound(name, self.own.get(name))
