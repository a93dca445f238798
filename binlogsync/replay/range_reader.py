"""The protocol of the readers of a range: from_stream.py and from_binlog.py implement it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, Protocol

from binlogsync.nats.reader import StreamBatch
from binlogsync.replay.ranges import ReplayRange


@dataclass(frozen=True, slots=True)
class ReadStep:
    """The changes of one read, and the progress after it.

    Attributes:
        items: changes of the range, possibly none; their sequences are 0 when they do not come from the stream.
        share: how much of the range has been read, 0 to 1.
    """

    items: tuple[StreamBatch, ...]
    share: float


class RangeReader(Protocol):
    """Reads the changes of one table in a range."""

    name: Literal["stream", "binlog"]
    expected: int | None
    """Number of changes in the range; None while it is unknown."""

    def read(self, range_: ReplayRange, stop: threading.Event) -> Generator[ReadStep]:
        """Yield every change of the range once, in order; return early when `stop` is set.

        Raises SinkError, WireError, SourceError, PositionError, DecodeError.
        """
