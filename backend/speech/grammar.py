"""Small-vocabulary recognition with pocketsphinx, for the local server.

A grammar is a list of phrases, one an utterance. pocketsphinx forces every sound into one of them,
so the phrases compete with a loop over broad phones: what fits that better (noise, a cough, other
words) is recognised as nothing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pocketsphinx

from backend.speech.text import HINTS_MODEL

RATE_HZ = 16000  # of the acoustic model
FRAME_MS = 10


@dataclass(frozen=True, slots=True)
class Grammar:
    """``other_weight``: of the loop against the phrases; the smaller, the less is refused.
    0: no loop, every sound is taken for one of the phrases."""

    phrases: tuple[str, ...]
    other_weight: float


# Measured with flite's four voices over alaw, 20 other words and phrases each: "general" hears 23
# of 24 and takes 2 of 80 others for an answer; "commands" 48 of 52 and 11 of 80; "digits" 39 of 40,
# and takes anything for a digit (with a loop it would hear 33).
GENERAL = "general"
GRAMMARS: Mapping[str, Grammar] = {
    GENERAL: Grammar(
        ("yes", "yes please", "yes i will", "no", "no thank you", "operator"), other_weight=1e-5
    ),
    "grammar:digits": Grammar(
        tuple("zero one two three four five six seven eight nine".split()),  # noqa: SIM905
        other_weight=0,
    ),
    "grammar:commands": Grammar(
        tuple(
            "yes no operator repeat stop help agent menu cancel continue balance goodbye "  # noqa: SIM905
            "tomorrow".split()
        ),
        other_weight=1e-5,
    ),
}

MAX_HINTED = 8  # sets of hints whose decoders are kept

# Enough to fit any other sound better than a wrong word does, too few to beat the right word. With
# all 39 phones the loop wins against a third of the true answers.
_LOOP_PHONES = tuple("AA AE AH IY UW OW ER S SH F T K M N L R".split())  # noqa: SIM905
_LOOP_PREFIX = "xx"
_LOOP_AGAIN = 0.1  # of each further phone in the loop
# Cepstral mean to begin with: that of synthesised speech over a telephone line. Taken anew for
# each session, or the first words would be heard through the line of the call before.
_CEPSTRAL_MEAN = "40,3,-1"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a decoder has heard; frames of FRAME_MS since ``start``. No words: nothing known."""

    words: tuple[tuple[str, int, int], ...] = ()  # text, first frame, frame after the last
    confidence: float = 0.0  # acoustic fit, 0 … 1; no probability

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


class Decoder:
    """One recogniser for one stream at a time: 9 MB, made in 10 ms. Not thread-safe."""

    def __init__(self, grammar: Grammar) -> None:
        with tempfile.TemporaryDirectory(prefix="dialog-grammar-") as folder:
            dictionary = Path(folder, "words.dict")
            dictionary.write_text(_dictionary(grammar.phrases), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(
                hmm=str(_model() / "en-us"),
                dict=str(dictionary),
                lm=None,
                samprate=float(RATE_HZ),
                bestpath=False,
                loglevel="FATAL",
            )
        self._decoder.add_jsgf_string("phrases", _jsgf(grammar))
        self._decoder.activate_search("phrases")

    def reset(self) -> None:
        """Forget the line of the stream before."""
        self._decoder.set_cmn(_CEPSTRAL_MEAN)

    def start(self) -> None:
        """An utterance begins."""
        self._decoder.start_utt()

    def feed(self, pcm: bytes) -> None:
        """Audio at RATE_HZ."""
        self._decoder.process_raw(pcm, False, False)

    def text_so_far(self) -> str:
        """The best text until now; a few microseconds."""
        best = self._decoder.hyp()
        words = best.hypstr.split() if best else ()
        return " ".join(word for word in words if not word.startswith(_LOOP_PREFIX))

    def end(self) -> Heard:
        """The utterance is over."""
        self._decoder.end_utt()
        if self._decoder.hyp() is None:
            return Heard()
        found = [
            segment
            for segment in self._decoder.seg()
            if segment.word[0] not in "<(" and not segment.word.startswith(_LOOP_PREFIX)
        ]
        if not found:
            return Heard()
        words = tuple((_plain(s.word), s.start_frame, s.end_frame + 1) for s in found)
        return Heard(words, min(1.0, sum(s.ascore for s in found) / len(found)))


class DecoderPool:
    """Decoders for reuse; keeps at most ``keep`` idle ones a grammar, and those of the MAX_HINTED
    hinted ones that were used last."""

    def __init__(self, grammars: Mapping[str, Grammar] = GRAMMARS, keep: int = 16) -> None:
        self._grammars = dict(grammars)
        self._keep = keep
        self._idle: dict[str, list[Decoder]] = {name: [] for name in grammars}
        self._hinted: dict[str, tuple[Grammar, tuple[str, ...]]] = {}

    def take(self, model: str) -> Decoder:
        """A decoder that nobody else uses. Raises KeyError for an unknown model."""
        if model.startswith(HINTS_MODEL):
            self._remember(model)
        idle = self._idle[model]
        decoder = idle.pop() if idle else Decoder(self._grammar(model))
        decoder.reset()
        return decoder

    def give_back(self, model: str, decoder: Decoder) -> None:
        """Only between utterances."""
        idle = self._idle.get(model)
        if idle is not None and len(idle) < self._keep:
            idle.append(decoder)

    def unusable(self, model: str) -> tuple[str, ...]:
        """The hints of a model in use whose words the dictionary does not have."""
        return self._hinted[model][1] if model in self._hinted else ()

    def knows(self, model: str) -> bool:
        return model in self._grammars or model.startswith(HINTS_MODEL)

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self._grammars)

    def _grammar(self, model: str) -> Grammar:
        return self._hinted[model][0] if model in self._hinted else self._grammars[model]

    def _remember(self, model: str) -> None:
        known = self._hinted.pop(model, None)
        self._hinted[model] = known or hinted(self._grammars[GENERAL], model)  # the last
        self._idle.setdefault(model, [])
        if len(self._hinted) > MAX_HINTED:
            oldest = next(iter(self._hinted))
            del self._hinted[oldest], self._idle[oldest]


def grammars_with(phrases: Sequence[str]) -> tuple[Mapping[str, Grammar], tuple[str, ...]]:
    """GRAMMARS, the general one with these phrases more; and those that cannot be added because
    the dictionary has not all of their words."""
    general, unusable = hinted(GRAMMARS[GENERAL], HINTS_MODEL + "|".join(phrases))
    return {**GRAMMARS, GENERAL: general}, tuple(phrase for phrase in unusable if phrase)


def hinted(general: Grammar, model: str) -> tuple[Grammar, tuple[str, ...]]:
    """``general`` with the phrases that ``model`` names, and those that cannot be added because
    the dictionary has not all of their words."""
    wanted = [_spelled(phrase) for phrase in model.removeprefix(HINTS_MODEL).split("|")]
    words = {word for phrase in wanted for word in phrase.split()}
    known = {_plain(line.split(" ", 1)[0]) for line in _dictionary_lines(words)}
    usable = [phrase for phrase in wanted if phrase and known.issuperset(phrase.split())]
    phrases = tuple(dict.fromkeys((*general.phrases, *usable)))
    unusable = tuple(phrase for phrase in wanted if phrase not in phrases)
    return Grammar(phrases, general.other_weight), unusable


def _spelled(phrase: str) -> str:
    """As the dictionary writes it."""
    return " ".join(re.sub(r"[^\w' -]", " ", phrase.lower()).split())


def _model() -> Path:
    return Path(pocketsphinx.__file__).parent / "model" / "en-us"


def _dictionary(phrases: tuple[str, ...]) -> str:
    """The lines of the model's dictionary for our words, and one for each phone of the loop."""
    lines = _dictionary_lines({word for phrase in phrases for word in phrase.split()})
    lines += [f"{_LOOP_PREFIX}{phone.lower()} {phone}\n" for phone in _LOOP_PHONES]
    return "".join(lines)


def _dictionary_lines(words: set[str]) -> list[str]:
    with (_model() / "cmudict-en-us.dict").open(encoding="utf-8") as full:
        return [line for line in full if _plain(line.split(" ", 1)[0]) in words]


def _jsgf(grammar: Grammar) -> str:
    phones = " | ".join(_LOOP_PREFIX + phone.lower() for phone in _LOOP_PHONES)
    utterance = f"/1/ <phrase> | /{grammar.other_weight}/ <other>"
    if not grammar.other_weight:
        utterance = "<phrase>"
    return (
        "#JSGF V1.0;\ngrammar phrases;\n"
        f"<phone> = {phones};\n"
        f"<other> = /1/ <phone> | /{_LOOP_AGAIN}/ <phone> <other>;\n"
        f"<phrase> = {' | '.join(grammar.phrases)};\n"
        f"public <utterance> = {utterance};\n"
    )


def _plain(word: str) -> str:
    """``word`` without the number of its pronunciation: "no(2)" is "no"."""
    return word.partition("(")[0]
