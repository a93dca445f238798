"""Reads the next messages of a stream in another thread, while the caller processes those before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from binlogsync.nats.messages import StreamBatch

log = logging.getLogger(__name__)

WAIT_S = 0.05
"""Seconds that one read waits for messages."""
_MOST_BYTES = 64 << 20
"""Bytes of changes after which reading ahead ends."""


@contextmanager
def reading_ahead(read: Callable[[], Sequence[StreamBatch]], most: int) -> Iterator[list[StreamBatch]]:
    """Call `read` again and again during the `with` block, in another thread.

    The list contains what was read when the block has ended. Reading ends earlier after about `most` changes or
    _MOST_BYTES, when `read` returns nothing, and with an error: the next read of the caller meets it again.
    """
    found: list[StreamBatch] = []
    is_over = threading.Event()

    def run() -> None:
        changes = size = 0
        try:
            while not is_over.is_set() and changes < most and size < _MOST_BYTES and (batches := read()):
                found.extend(batches)
                changes += sum(len(each) for each in batches)
                size += sum(each.batch.nbytes for each in batches)
        except Exception as error:  # noqa: BLE001 - see above
            log.debug("reading ahead: %r", error)

    thread = threading.Thread(target=run, name=f"{threading.current_thread().name} ahead", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join()
