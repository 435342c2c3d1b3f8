"""G.711 against the values of the recommendation, and against both laws' own properties."""

from __future__ import annotations

from array import array

import pytest

from backend.media.g711 import from_alaw, from_ulaw


def decoded(data: bytes) -> list[int]:
    return list(array("h", data))


@pytest.mark.parametrize(
    ("code", "value"),
    [(0xFF, 0), (0x7F, 0), (0x80, 32124), (0x00, -32124), (0xFE, 8), (0xEF, 132), (0x6F, -132)],
)
def test_ulaw(code: int, value: int) -> None:
    assert decoded(from_ulaw(bytes([code]))) == [value]


@pytest.mark.parametrize(
    ("code", "value"),
    [(0xD5, 8), (0x55, -8), (0xAA, 32256), (0x2A, -32256), (0xD4, 24), (0xC5, 264), (0x80, 5504)],
)
def test_alaw(code: int, value: int) -> None:
    assert decoded(from_alaw(bytes([code]))) == [value]


@pytest.mark.parametrize("decode", [from_ulaw, from_alaw])
def test_both_halves_mirror_each_other(decode: object) -> None:
    values = decoded(decode(bytes(range(256))))  # type: ignore[operator]
    assert sorted(values) == sorted(-value for value in values)
    assert len(set(values)) >= 255
