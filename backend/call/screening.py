"""What is heard of a leg before its answer, judged: so that no answer is paid for that is not
needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.call.legs import Leg
    from backend.call.runner import Services


class Screening:
    def begin(self, leg: Leg, services: Services) -> None: ...
    def look(self, leg: Leg) -> None: ...
    def answered(self, leg: Leg) -> None: ...
