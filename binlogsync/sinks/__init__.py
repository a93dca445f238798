"""Where a flush goes. A new sink is one file that fulfils `Sink`, and passes tests/sinks/contract.py.

A sink stores its checkpoint with its data, in one transaction: what it says it has is what it has.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from binlogsync.flush import Flush
from binlogsync.position import Checkpoint


class Sink(Protocol):
    """Stores flushes of one source, each wholly or in part up to a checkpoint that it stores too."""

    name: str

    def open(self, source: str) -> Checkpoint | None:
        """Connect, check, and say how far the sink got; None when it holds nothing. Raises SinkError."""

    def write(self, flush: Flush) -> None:
        """Store the changes and the checkpoint, durably, and return only then.

        Never called with changes that the sink has already. A flush with no changes moves the checkpoint only.
        Raises FencedError when another writer has written since, SinkError when it cannot be stored now (what was
        stored before the error is counted by the next open).
        """

    def close(self) -> None:
        """Let go of connections and files; never raises, never flushes."""


@runtime_checkable
class SequencedSink(Protocol):
    """A sink that numbers what it stores, for ever."""

    @property
    def last_sequence(self) -> int:
        """Of the last message that is stored; right between `open` and the next write, and between two writes."""


@runtime_checkable
class MonitoredSink(Protocol):
    """A sink that can tell between two writes that what it writes to was changed or deleted."""

    def watch(self) -> None:
        """Compare what the sink writes to with what `open` found; called every few seconds, by the thread that writes.

        Raises SinkError.
        """


@runtime_checkable
class PreparingSink(Protocol):
    """A sink that can make a flush ready while the one before it is being stored."""

    def prepare(self, flush: Flush) -> None:
        """A hint, from the thread that writes: this flush comes after the next `write`. Raises nothing."""
