"""Slices of a snapshot are as large as the stream stores them in the time that a change may wait."""

from __future__ import annotations

from binlogsync.tail.snapshot_pace import SnapshotPace


def store(pace: SnapshotPace, now_s: float, rows_per_s: float) -> float:
    """Publish a slice as large as possible; returns when it is stored."""
    assert pace.may_publish(now_s)
    rows = pace.rows
    pace.publish(rows, now_s)
    now_s += rows / rows_per_s
    pace.stored(rows, now_s)
    return now_s


def test_an_eager_tail_has_one_slice_on_its_way() -> None:
    pace = SnapshotPace(3.0, is_eager=True)
    pace.publish(10, 0.0)
    assert not pace.may_publish(100.0)
    pace.stored(10, 100.0)
    assert pace.may_publish(100.0)
    other = SnapshotPace(3.0, is_eager=False)
    for expected in (True, True, False):
        assert other.may_publish(0.0) is expected
        other.publish(10, 0.0)


def test_slices_take_as_long_as_a_change_may_wait() -> None:
    for is_eager, interval_s, rows_per_s, expected in (
        (True, 3.0, 40_000, 400),
        (True, 3.0, 1_000, 50),
        (False, 3.0, 40_000, 10_000),
        (False, 3.0, 400_000, 20_000),
        (False, 0.5, 40_000, 2_000),
    ):
        pace, now_s = SnapshotPace(interval_s, is_eager=is_eager), 0.0
        pace.begin(None)
        for _ in range(20):
            now_s = store(pace, now_s, rows_per_s)
        assert abs(pace.rows - expected) <= 2


def test_slices_of_a_whole_table_are_large_and_have_no_limit() -> None:
    for is_eager in (True, False):
        pace, now_s = SnapshotPace(0.05, is_eager=is_eager), 0.0
        pace.begin(10.0)
        pace.begin_whole()
        for _ in range(20):
            now_s = store(pace, now_s, 40_000)
        assert abs(pace.rows - 10_000) <= 2
        assert pace.may_publish(now_s)
        pace.begin(10.0)
        assert pace.rows == 2


def test_a_limit_of_the_rate_is_kept_evenly() -> None:
    pace, now_s, rows = SnapshotPace(3.0, is_eager=False), 1000.0, 0
    pace.begin(500.0)
    assert pace.rows == 100
    while now_s < 1010.0:
        while pace.may_publish(now_s):
            pace.publish(pace.rows, now_s)
            rows += pace.rows
            pace.stored(pace.rows, now_s)
        now_s += 0.01
    assert 4_900 <= rows <= 5_300
