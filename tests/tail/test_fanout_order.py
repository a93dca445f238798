"""Flushes of one sink are counted in their order, whichever threads store them."""

from __future__ import annotations

import threading

from binlogsync.position import Checkpoint
from binlogsync.tail.fanout import Fanout
from tests.samples import SampleSource
from tests.tail.test_eager_flushes import HOUR, StartingSink, eager
from tests.waiting import wait_until


def test_the_next_flush_begins_after_the_one_before_is_counted() -> None:
    source, noted, may_note = SampleSource(), list[Checkpoint](), threading.Event()

    def note(checkpoint: Checkpoint) -> None:
        noted.append(checkpoint)
        may_note.wait(60)

    sink = StartingSink()
    fanout = Fanout({sink: None}, noted.append, 1 << 30, HOUR, note)
    flushes = [eager(source.flush(1)) for _ in range(2)]
    try:
        fanout.put(flushes[0], lambda: None)
        ending = threading.Thread(target=sink.ends[0], args=(None,))
        ending.start()
        wait_until(lambda: noted, 10, "the checkpoint of the first flush")
        fanout.put(flushes[1], lambda: None)
        assert sink.started == flushes[:1]
        may_note.set()
        ending.join()
        fanout.wait(lambda: None)
    finally:
        may_note.set()
        for end in sink.ends[1:]:  # none, unless the test fails
            end(None)
        fanout.close(lambda: None)
    assert sink.flushes == flushes[1:]
    assert noted == [flush.checkpoint for flush in flushes]
