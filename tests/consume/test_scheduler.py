"""Whose turn it is, where there are more tables than workers: pure, with a clock of the test's own."""

from __future__ import annotations

from binlogsync.consume.scheduler import Scheduler


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_has_its_turn_before_any_has_a_second() -> None:
    turns = Scheduler(["a", "b", "c"], workers=1)
    order = []
    for _ in range(7):
        item = turns.next()
        assert item is not None
        order.append(item)
        turns.again(item)
    assert order == list("abcabca")


def test_who_rests_comes_back_when_it_is_woken_or_its_time_is_over() -> None:
    clock = Clock()
    turns = Scheduler(["a", "b", "c"], 1, clock)
    for _ in "abc":
        turns.rest(str(turns.next()), 60.0)
    assert turns.resting() == (["a", "b", "c"], True)
    turns.wake(["b"])
    assert (turns.next(), turns.resting()) == ("b", (["a", "c"], False))
    turns.wake(["b"])  # it is out, and stays the only one
    clock.now = 60.0
    assert [turns.next(), turns.next(), turns.resting()] == ["a", "c", ([], False)]


def test_who_failed_waits_for_its_time_and_leaves_half_of_the_workers_to_others() -> None:
    clock = Clock()
    turns = Scheduler([f"bad{n}" for n in range(6)] + ["good"], 4, clock)
    for _ in range(6):
        turns.fail(str(turns.next()), 5.0)
    turns.wake([f"bad{n}" for n in range(6)])  # nobody wakes what failed
    assert turns.next() == "good"
    turns.again("good")
    clock.now = 5.0
    assert [turns.next() for _ in range(3)] == ["good", "bad0", "bad1"]
    turns.again("good")
    assert turns.next() == "good"  # two of the four are out, so the bad ones wait
    turns.again("bad0")
    assert turns.next() == "bad2"


def test_a_closed_line_hands_out_nothing() -> None:
    turns = Scheduler(["a"], 1)
    turns.close()
    assert turns.next() is None
