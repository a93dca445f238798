"""Loads that wait at a chunk until the test lets them continue: a load of few rows may end before a test can act."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from binlogsync.snapshot.throttle import Throttle
from tests.waiting import wait_until

_POLL_S = 0.02


class HeldLoads:
    """Holds one load of each table after a number of chunks, and none before and after it."""

    def __init__(self, chunks: int, number: int) -> None:
        self._chunks, self._number = chunks, number
        self._loads: defaultdict[str, list[Throttle]] = defaultdict(list)
        self._read: dict[str, int] = {}
        self._held: set[str] = set()
        self._may_continue = threading.Event()

    def wait(self, *threads: threading.Thread, tables: int = 1) -> None:
        """Wait until the loads of that many tables are held; `threads` run them."""
        wait_until(lambda: len(self._held) >= tables or not all(each.is_alive() for each in threads), 60, "held loads")
        assert len(self._held) >= tables, "a load has ended early"

    def release(self, *threads: threading.Thread) -> None:
        """Let the loads continue, and wait for the end of the threads."""
        self._may_continue.set()
        finish(*threads)

    def before_chunk(self, load: Throttle, stop: threading.Event) -> None:
        """Called by each load before it reads a chunk."""
        name = load._name  # noqa: SLF001 - of the table
        loads = self._loads[name]
        if load not in loads:
            loads.append(load)
        if loads.index(load) + 1 != self._number:
            return
        self._read[name] = self._read.get(name, -1) + 1
        if self._read[name] < self._chunks:
            return
        while not self._may_continue.is_set() and not stop.is_set():
            load._pause(_POLL_S, stop)  # noqa: SLF001 - releases the file of the mirror
            self._held.add(name)


@contextmanager
def held_loads(chunks: int = 1, number: int = 1) -> Iterator[HeldLoads]:
    """Hold the n-th load of each table after it has stored so many chunks; a load that begins again is another one."""
    held, wait = HeldLoads(chunks, number), Throttle.wait

    def wait_for_test(load: Throttle, config: Any, connection: Any, stop: threading.Event, **named: Any) -> None:
        wait(load, config, connection, stop, **named)
        held.before_chunk(load, stop)

    with patch.object(Throttle, "wait", wait_for_test):
        try:
            yield held
        finally:
            held.release()


def finish(*threads: threading.Thread) -> None:
    """Wait for the end of threads."""
    for thread in threads:
        thread.join(240)
        assert not thread.is_alive(), thread.name
