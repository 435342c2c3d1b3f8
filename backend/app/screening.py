"""What judges the legs of ``dial_screened``: the admin's tables, read once, a new judge a leg."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from backend.config import Settings
from backend.errors import ConfigError
from backend.media import phrases, tone_table
from backend.media.answering import AnsweringConfig
from backend.media.screening import CallScreening, ScreeningConfig


class Wished(Protocol):
    """What of a leg a judge has to know."""

    @property
    def timeout_ms(self) -> int: ...
    @property
    def who_answered(self) -> bool: ...


def open_judges(settings: Settings) -> Callable[[Wished], CallScreening]:
    """Makes judges. Raises ConfigError for a table that is wrong: names file and entry.

    Announcements count in every language of the file: carriers say them in several, and not in
    the call's.
    """
    table = tone_table.load(settings.tones_file)
    country = settings.tones_country.lower()
    if country not in table.countries or country == tone_table.COMMON:
        known = ", ".join(sorted(table.countries.keys() - {tone_table.COMMON}))
        where = settings.tones_file or "the table of this package"
        raise ConfigError(f"tones_country: {country!r} is not in {where}; known: {known}")
    tones = table.of(country)
    patterns = phrases.load(settings.announcements_file)
    answering = AnsweringConfig(
        initial_silence_ms=settings.answer_initial_silence_ms,
        greeting_ms=settings.answer_greeting_ms,
        after_greeting_ms=settings.answer_silence_ms,
    )

    def judge(wishes: Wished) -> CallScreening:
        config = ScreeningConfig(
            timeout_ms=wishes.timeout_ms,
            who_answered=wishes.who_answered,
            answering=answering,
        )
        return CallScreening(tones, patterns, config=config)

    return judge
