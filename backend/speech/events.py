"""What the recognisers of this package promise beyond ports.RecognitionStream. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from backend.ports import UtteranceEnded


@dataclass(frozen=True, slots=True)
class StreamEnded(UtteranceEnded):
    """The last event of a stream that was closed: every final has been delivered.

    Every stream ends with this or with RecognitionFailed, exactly once. To a receiver that knows
    only the port it is one more UtteranceEnded.
    """
