"""Whether a tone on a tape is one and the same from its first sample to its last."""

from __future__ import annotations

import cmath
import math
import operator
from array import array
from dataclasses import dataclass, field

RATE_HZ = 8000
BLOCK = 160
"""A packet: from its first sample on a tape consists of them, whole; where none came it is 0."""
SLACK_RAD = 0.2  # a sample lost or doubled is 0.35 at 440 Hz, a packet 1.26


@dataclass
class Judgement:
    """What has become of the tone."""

    late_ms: list[int] = field(default_factory=list)
    """Silences: the sender stood still for so long, and nothing is missing."""
    damage: list[str] = field(default_factory=list)
    """Where something is missing, doubled, or not the tone."""

    @property
    def longest_ms(self) -> int:
        """The longest silence."""
        return max(self.late_ms, default=0)


def judge(samples: array[int], hz: int, trim_ms: int = 200) -> Judgement:
    """Follow the tone of HZ by its phase; the first and last TRIM_MS are passed over."""
    turn = 2 * math.pi * hz / RATE_HZ
    trim = trim_ms * RATE_HZ // 1000
    first = next((at for at, value in enumerate(samples) if value), 0)
    blocks = []
    for at in range(first + trim, len(samples) - trim - BLOCK, BLOCK):
        part = enumerate(samples[at : at + BLOCK], at)
        blocks.append(sum(value * cmath.exp(-1j * turn * n) for n, value in part) * 2 / BLOCK)
    found = Judgement()
    level = sorted(map(abs, blocks))[len(blocks) // 2] if blocks else 0.0
    while len(blocks) > 1 and abs(blocks[0]) < 0.01 * level:  # a silence where it would begin
        del blocks[0]
        first += BLOCK
    if not level or not 0.85 * level < abs(blocks[0]) < 1.15 * level:
        found.damage.append("there is no tone")
        return found
    before, silent = blocks[0], 0
    for number, now in enumerate(blocks[1:], 1):
        place = f"{first // 8 + trim_ms + number * 20} ms"
        if abs(now) < 0.01 * level:
            silent += 1
            continue
        jump = cmath.phase(now / before * cmath.exp(1j * turn * BLOCK * silent))
        if not 0.85 * level < abs(now) < 1.15 * level:
            found.damage.append(f"{place}: level {abs(now):.0f} of {level:.0f}")
        elif silent and abs(jump) < SLACK_RAD:
            found.late_ms.append(20 * silent)
        elif abs(jump) > SLACK_RAD:
            found.damage.append(f"{place}: after {silent} silent packets a jump of {jump:.2f} rad")
        before, silent = now, 0
    return found


def heard_ms(samples: array[int], hz: int, block_ms: int = 100) -> list[int]:
    """Where a tone of HZ is, alone or among others (the next 100 Hz away): the beginnings of the
    blocks that hold it."""
    size = block_ms * RATE_HZ // 1000
    turn = 2 * math.pi * hz / RATE_HZ
    # A Hann window: a tone that begins or ends within the block leaks less into its neighbours.
    window = [1 - math.cos(2 * math.pi * n / size) for n in range(size)]
    wave = [window[n] * cmath.exp(-1j * turn * n) for n in range(size)]
    found = []
    for at in range(0, len(samples) - size + 1, size):
        level = abs(sum(map(operator.mul, samples[at : at + size], wave))) * 2 / size
        if level > 300:
            found.append(at * 1000 // RATE_HZ)
    return found
