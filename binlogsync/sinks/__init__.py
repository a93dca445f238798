"""Sinks store flushes. A new sink is one file that implements `Sink` and passes tests/sinks/contract.py.

A sink stores its checkpoint and its data in one transaction, so that the two always agree.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from binlogsync.flush import Flush
from binlogsync.position import Checkpoint


class Sink(Protocol):
    """Stores flushes of one source, each completely or up to a checkpoint that it stores too."""

    name: str

    def open(self, source: str) -> Checkpoint | None:
        """Connect, check, and return the sink's checkpoint; None when the sink is empty. Raises SinkError."""

    def write(self, flush: Flush) -> None:
        """Store the changes and the checkpoint; returns once they are durable.

        Never called with changes that the sink already has. A flush without changes only updates the checkpoint.
        Raises FencedError when another writer has written since, SinkError when the flush cannot be stored now (the
        next `open` returns the checkpoint of what was stored before the error).
        """

    def close(self) -> None:
        """Close connections and files; never raises, never flushes."""


@runtime_checkable
class SequencedSink(Protocol):
    """A sink that numbers the messages that it stores, without ever reusing a number."""

    @property
    def last_sequence(self) -> int:
        """Sequence of the last stored message; valid after `open` and between two writes."""


@runtime_checkable
class MonitoredSink(Protocol):
    """A sink that can detect, between two writes, that its destination was changed or deleted."""

    def watch(self) -> None:
        """Compare the destination with the state that `open` found; called every few seconds by the writing thread.

        Raises SinkError.
        """


@runtime_checkable
class PreparingSink(Protocol):
    """A sink that can prepare a flush while the previous one is being stored."""

    def prepare(self, flush: Flush) -> None:
        """A hint from the writing thread: this flush follows after the next `write`. Never raises."""
