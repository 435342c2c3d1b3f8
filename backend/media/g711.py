"""G.711 to signed linear: the two companding laws of telephony (ITU-T G.711). Pure."""

from __future__ import annotations

from array import array


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    value = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -value if code & 0x80 else value


def _alaw(code: int) -> int:
    code ^= 0x55
    segment, step = code >> 4 & 7, (code & 0x0F) << 4
    value = step + 8 if segment == 0 else step + 0x108 << segment - 1
    return value if code & 0x80 else -value


_ULAW = [_ulaw(code) for code in range(256)]
_ALAW = [_alaw(code) for code in range(256)]


def from_ulaw(data: bytes) -> bytes:
    """slin16 at the same rate."""
    return array("h", map(_ULAW.__getitem__, data)).tobytes()


def from_alaw(data: bytes) -> bytes:
    """slin16 at the same rate."""
    return array("h", map(_ALAW.__getitem__, data)).tobytes()
