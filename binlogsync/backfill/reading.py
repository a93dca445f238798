"""What the two sources of a backfill have in common: changes of one table in a range, in order, with how far it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from binlogsync.backfill.ranges import Span
from binlogsync.stream.reader import StreamBatch


@dataclass(frozen=True, slots=True)
class Part:
    """Some changes of the range, or none where only other things were read.

    Attributes:
        items: the changes; their sequences are 0 where they do not come from the stream.
        share: of the range that is read with them, 0 to 1.
    """

    items: tuple[StreamBatch, ...]
    share: float


class Reading(Protocol):
    """One range, ready to be read."""

    name: Literal["stream", "binlog"]
    expected: int | None
    """Changes in it, where that is known before they are read."""

    def parts(self, span: Span, stop: threading.Event) -> Iterator[Part]:
        """Every change in it, once, in order; ends early on `stop`.

        Raises SinkError, WireError, SourceError, PositionError, DecodeError.
        """
