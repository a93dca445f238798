"""Backoff, and the pauses and time limit of a loop that tries again."""

from __future__ import annotations

from binlogsync.waiting import Interval, RetryTimer, backoff_s


def test_waits_double_up_to_the_longest() -> None:
    assert [backoff_s(0.5, 3.0, failures) for failures in (1, 2, 3, 4, 5, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_pauses_of_a_loop_grow_until_it_is_restarted() -> None:
    slept: list[float] = []
    timer = RetryTimer(3600, 0.5, 2.0, slept.append)
    for _ in range(4):
        assert not timer.is_over
        timer.pause()
    timer.restart()
    timer.pause()
    assert slept == [0.5, 1.0, 2.0, 2.0, 0.5]


def test_a_loop_with_equal_pauses_and_no_time_is_over_at_once() -> None:
    slept: list[float] = []
    timer = RetryTimer(0.0, 0.1, sleep=slept.append)
    assert timer.is_over
    for _ in range(3):
        timer.pause()
    assert slept == [0.1, 0.1, 0.1]


def test_an_interval_is_due_once_in_its_time() -> None:
    clock = iter([100.0, 100.0, 100.0, 104.0, 104.0, 105.0, 105.0, 109.0, 109.0, 112.0, 112.0])
    later = Interval(5.0, clock.__next__, is_due_at_once=False)
    at_once = Interval(5.0, clock.__next__)
    found = [(at_once.is_due(), later.is_due()) for _ in range(5)]
    assert found == [(True, False), (False, False), (True, True), (False, False), (True, True)]
