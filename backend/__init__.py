"""asterisk-dialog: real-time spoken dialogues on Asterisk. One Python function is one call.

The names below are all a scenario needs.
"""

from backend.call.call import Call, Heard, HearStatus, Recording, Sound
from backend.call.playback import Played, PlayEnd
from backend.call.scenario import scenario
from backend.call.shared import TaskHandle
from backend.call.store import Store
from backend.errors import (
    CommandRefused,
    CommandTimeout,
    DialogError,
    Hangup,
    RecognitionUnavailable,
    StorageUnavailable,
    SynthesisUnavailable,
)

__all__ = [
    "Call",
    "CommandRefused",
    "CommandTimeout",
    "DialogError",
    "Hangup",
    "HearStatus",
    "Heard",
    "PlayEnd",
    "Played",
    "RecognitionUnavailable",
    "Recording",
    "Sound",
    "StorageUnavailable",
    "Store",
    "SynthesisUnavailable",
    "TaskHandle",
    "scenario",
]
