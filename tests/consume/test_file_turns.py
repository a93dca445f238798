"""Turns of the mirrors of a file: one transaction at a time, and the file free in between. Pure."""

from __future__ import annotations

import math

import pytest

from binlogsync.consume.file_turns import FileTurns
from binlogsync.consume.scheduler import Scheduler
from tests.consume.manual_clock import ManualClock


def run(turns: FileTurns, clock: ManualClock, seconds: float, mirrors: int = 1) -> None:
    assert turns.begin("a", has_backlog=False) == 0
    clock.now += seconds
    turns.end("a", mirrors)


def test_a_file_has_one_transaction_at_a_time() -> None:
    turns = FileTurns(0.3)
    assert turns.begin("a", has_backlog=False) == 0
    assert turns.begin("a", has_backlog=True) == math.inf
    assert turns.begin("b", has_backlog=False) == 0


@pytest.mark.parametrize(("seconds", "free_s"), [(0.125, 0.125), (8.0, 0.25)])
def test_a_file_stays_free_for_as_long_as_it_was_in_use_up_to_a_limit(seconds: float, free_s: float) -> None:
    clock = ManualClock(100.0)
    turns = FileTurns(0.25, clock)
    run(turns, clock, seconds)
    assert turns.begin("a", has_backlog=False) == free_s
    clock.now += free_s
    assert turns.begin("a", has_backlog=False) == 0


def test_a_backlog_is_not_delayed() -> None:
    clock = ManualClock(100.0)
    turns = FileTurns(0.25, clock)
    run(turns, clock, 0.125)
    assert turns.begin("a", has_backlog=True) == 0


@pytest.mark.parametrize(("seconds", "most"), [(0.125, 80), (0.5, 20), (2.0, 5), (100.0, 1)])
def test_a_transaction_has_as_many_mirrors_as_take_half_a_second(seconds: float, most: int) -> None:
    clock = ManualClock(100.0)
    turns = FileTurns(0.25, clock)
    assert turns.most_mirrors("a", has_backlog=False) is None
    run(turns, clock, seconds, mirrors=20)
    assert turns.most_mirrors("a", has_backlog=False) == most


def test_all_mirrors_join_a_backlog() -> None:
    clock = ManualClock(100.0)
    turns, waiting = FileTurns(0.25, clock), Scheduler(["backlog", "b", "c"], 1, clock)
    applied = set[str]()
    for _ in range(5):  # the transaction of the backlog begins before the others get the file
        assert turns.begin("a", has_backlog=True) == 0
        first = waiting.next()
        assert first is not None
        states = [first, *waiting.take_signaled(lambda one: True, turns.most_mirrors("a", has_backlog=True))]
        clock.now += 10.0
        turns.end("a", len(states))
        applied |= set(states)
        for state in states:
            waiting.requeue(state)
    assert applied == {"backlog", "b", "c"}
    assert turns.most_mirrors("a", has_backlog=False) == 1
