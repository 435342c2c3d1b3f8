"""asterisk-dialog: real-time spoken dialogues on Asterisk. One Python function is one call.

The names below are all a scenario needs.
"""

from backend.call.bridge import BridgeEnd, BridgeSide, TransferEnd, TransferStatus
from backend.call.call import Call, Recording
from backend.call.conference import Conference, ConferenceHeard, Participant
from backend.call.guard_rules import KeyGuard
from backend.call.keys import Digits, DigitsRead, DigitsStatus
from backend.call.legs import Leg, LegStatus
from backend.call.listening import Listening, Result
from backend.call.playback import Played, PlayEnd
from backend.call.prompt import Sound, Text
from backend.call.scenario import scenario
from backend.call.shared import TaskHandle
from backend.call.store import Store
from backend.call.turn import Heard, HearStatus
from backend.errors import (
    CommandRefused,
    CommandTimeout,
    DialogError,
    Hangup,
    LegHangup,
    RecognitionUnavailable,
    StorageUnavailable,
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
    "Digits",
    "DigitsRead",
    "DigitsStatus",
    "Hangup",
    "HearStatus",
    "Heard",
    "KeyGuard",
    "Leg",
    "LegHangup",
    "LegStatus",
    "Listening",
    "Participant",
    "PlayEnd",
    "Played",
    "RecognitionUnavailable",
    "Recording",
    "Result",
    "Sound",
    "StorageUnavailable",
    "Store",
    "SynthesisUnavailable",
    "TaskHandle",
    "Text",
    "TransferEnd",
    "TransferStatus",
    "scenario",
]
