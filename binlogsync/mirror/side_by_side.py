"""Loads of several mirrors in one target at the same time, each in a thread with its own connections."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from binlogsync.errors import BinlogSyncError
from binlogsync.mirror.rebuild import RebuildableMirror

log = logging.getLogger(__name__)
Load = tuple[RebuildableMirror, Callable[[], None]]
"""A mirror, and the function that loads it."""


def load_side_by_side(loads: Sequence[Load]) -> None:
    """Run the loads, at most `LoadLimits.group_tables` at a time, and wait for all of them, also after one has failed.

    Raises the first error, by the order of the loads; the others are logged.
    """
    if len(loads) == 1:
        loads[0][1]()
        return
    if not loads:
        return
    most = min(mirror.limits.group_tables for mirror, _ in loads)
    with ThreadPoolExecutor(most, thread_name_prefix="load") as pool:
        running = [pool.submit(_load_alone, *load) for load in loads]
    for each in running:
        each.result()


def _load_alone(mirror: RebuildableMirror, load: Callable[[], None]) -> None:
    """Run one load, with a separate reader and TableStore."""
    reader, tables = mirror.stream, mirror.tables
    mirror.tables = tables.another()
    try:
        with ExitStack() as held:
            if reader is not None:
                mirror.stream = held.enter_context(reader.another())
            load()
    except BinlogSyncError as error:
        log.warning("%s.%s: %s; the other tables of its group continue to load", mirror.database, mirror.table, error)
        raise
    finally:
        mirror.tables.release()
        mirror.stream, mirror.tables = reader, tables
