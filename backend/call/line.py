"""A channel as a scenario has it: what it says, what it hears, its fork. The call's own, or a
leg's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.call.call import Call, CallInfo
from backend.call.dialogue import Dialogue, TalkConfig
from backend.call.ear import CallEar
from backend.call.fork import CallFork
from backend.call.gate import KeyGate
from backend.call.keys import Keys
from backend.call.playback import FilePlayback
from backend.call.speaker import Speaker
from backend.call.steps import StepLog
from backend.call.streaming import StreamPlayback
from backend.media.gate import VoiceGate
from backend.media.voice import VoiceDetector
from backend.model import CallStep, Utterance
from backend.ports import RecognitionOptions

if TYPE_CHECKING:
    from backend.call.dialogue import Agi
    from backend.call.runner import Services


@dataclass(frozen=True, slots=True)
class Line:
    """One channel's parts, joined."""

    call: Call
    dialogue: Dialogue
    ear: CallEar
    stream: StreamPlayback
    fork: CallFork


def open_gate(services: Services) -> VoiceGate:
    """What decides which audio a recogniser gets, by the settings."""
    voice = services.voice
    return VoiceGate(VoiceDetector(voice.mode, voice.onset_ms, voice.end_silence_ms))


def open_ear(
    name: str, services: Services, language: str, on_said: Callable[[Utterance], None]
) -> CallEar:
    """What hears one stream; ``name`` is for the log."""
    return CallEar(
        name,
        services.recognizer,
        RecognitionOptions(languages=(language,)),
        open_gate(services),
        own_end_of_utterance=services.voice.own_end_of_utterance,
        on_utterance=on_said,
    )


def open_line(
    agi: Agi,
    info: CallInfo,
    services: Services,
    *,
    on_said: Callable[[Utterance], None],
    on_recorded: Callable[[str], None],
    keep_step: Callable[[CallStep], None] | None = None,
) -> Line:
    """Nothing is sent yet, and no stream is claimed. Without ``keep_step`` no prompt can be
    guarded."""
    ear = open_ear(info.channel, services, info.language, on_said)
    stream = StreamPlayback(agi, info.channel)
    keys = Keys()
    speaker = Speaker(info.channel, stream, FilePlayback(agi, services.ami, info.channel))
    steps = StepLog(info.id, info.task_id, keep_step or _no_step, lambda: ear.position_ms)
    gate = KeyGate(info.channel, keys, ear, speaker.stop, steps if keep_step else None)
    speaker.watch(gate)
    dialogue = Dialogue(
        info.channel,
        TalkConfig(
            info.language,
            services.call.command_s,
            services.call.recognition_s,
            services.call.max_call_s,
            services.voice.decide_ms,
            services.voice.backchannel,
        ),
        agi,
        speaker,
        ear,
        keys,
        gate,
        prompts=services.prompts,
        on_spoken=on_said,
    )
    call = Call(
        info,
        services.call,
        agi,
        dialogue,
        on_recording=on_recorded,
        shared=services.shared,
        step_log=steps,
    )
    return Line(call, dialogue, ear, stream, CallFork(info.channel, ear, stream, gate))


def _no_step(_: CallStep) -> None:
    """Nobody keeps them."""
