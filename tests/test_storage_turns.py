from __future__ import annotations

import threading
from time import monotonic

import pytest

from backend.errors import StorageUnavailable
from backend.storage.turns import Turns


def wait_until_waiting(turns: Turns, count: int) -> None:
    ends = monotonic() + 60
    while len(turns._waiting) < count:
        assert monotonic() < ends
        threading.Event().wait(0.001)


def test_who_came_first_is_first() -> None:
    turns, order, threads = Turns(1), list[int](), []

    def caller(number: int) -> None:
        with turns.turn(60):
            order.append(number)

    with turns.turn(60):
        for number in range(10):
            threads.append(threading.Thread(target=caller, args=(number,)))
            threads[-1].start()
            wait_until_waiting(turns, number + 1)
    with turns.turn(60):  # behind all of them, though nobody had to be woken for this one
        order.append(10)
    for thread in threads:
        thread.join(60)
    assert order == list(range(11))


def test_never_more_than_the_places() -> None:
    turns, mutex = Turns(3), threading.Lock()
    inside, most = [0], [0]

    def caller() -> None:
        for _ in range(200):
            with turns.turn(60):
                with mutex:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with mutex:
                    inside[0] -= 1

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert inside == [0]
    assert 1 <= most[0] <= 3
    assert turns._free == 3


def test_who_waits_too_long_is_told_and_forgotten() -> None:
    turns = Turns(1)
    with turns.turn(1):
        with pytest.raises(StorageUnavailable, match="all 1 connections"), turns.turn(0.01):
            pass
        assert not turns._waiting
    with turns.turn(0):
        pass


def test_a_place_is_given_back_by_an_error() -> None:
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError), turns.turn(1):
        raise ZeroDivisionError
    with turns.turn(0):
        pass
