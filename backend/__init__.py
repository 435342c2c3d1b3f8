"""asterisk-dialog: real-time spoken dialogues on Asterisk. One Python function is one call.

The names below are all a scenario needs.
"""

from backend.call.bridge import BridgeEnd, BridgeSide, TransferEnd, TransferStatus
from backend.call.call import Call, Heard, HearStatus, Recording, Sound
from backend.call.conference import Conference, ConferenceHeard, Participant
from backend.call.legs import Leg, LegStatus
from backend.call.playback import Played, PlayEnd
from backend.call.scenario import scenario
from backend.errors import (
    CommandRefused,
    CommandTimeout,
    DialogError,
    Hangup,
    RecognitionUnavailable,
    SynthesisUnavailable,
)

__all__ = [
    "BridgeEnd",
    "BridgeSide",
    "Call",
    "CommandRefused",
    "CommandTimeout",
    "Conference",
    "ConferenceHeard",
    "DialogError",
    "Hangup",
    "HearStatus",
    "Heard",
    "Leg",
    "LegStatus",
    "Participant",
    "PlayEnd",
    "Played",
    "RecognitionUnavailable",
    "Recording",
    "Sound",
    "SynthesisUnavailable",
    "TransferEnd",
    "TransferStatus",
    "scenario",
]
