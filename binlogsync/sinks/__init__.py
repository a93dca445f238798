"""Sinks store flushes. A new sink is one file that implements `Sink` and passes tests/sinks/contract.py.

A sink stores its checkpoint and its data in one transaction, so that the two always agree. A sink is a subclass of
`Sink`: it implements `open`, `write` and `close`, and overrides the other methods if its destination supports them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Set
from typing import Protocol

from binlogsync.flush import Flush
from binlogsync.position import Checkpoint


class Sink(Protocol):
    """Stores flushes of one source, each completely or up to a checkpoint that it stores too."""

    name: str

    @abstractmethod
    def open(self, source: str) -> Checkpoint | None:
        """Connect, check, and return the sink's checkpoint; None when the sink is empty. Raises SinkError."""

    @abstractmethod
    def write(self, flush: Flush) -> None:
        """Store the changes and the checkpoint; returns once they are durable.

        Never called with changes that the sink already has. A flush without changes only updates the checkpoint.
        Raises FencedError when another writer has written since, SinkError when the flush cannot be stored now (the
        next `open` returns the checkpoint of what was stored before the error).
        """

    @abstractmethod
    def close(self) -> None:
        """Close connections and files; never raises, never flushes."""

    @property
    def last_sequence(self) -> int | None:
        """Sequence of the last stored message; None if the sink does not number its messages.

        Valid after `open` and between two writes. A number is never assigned twice.
        """
        return None

    @property
    def feeds_consumers(self) -> bool:
        """True when consumers read the changes from the sink: a gap is then also written for each table."""
        return False

    @property
    def takes_snapshots(self) -> bool:
        """True when the sink stores the rows of incremental snapshots, and their progress with its checkpoint.

        Another sink is a log of changes: it gets flushes without these rows.
        """
        return False

    @property
    def stored_snapshot(self) -> str | None:
        """Progress of an incremental snapshot, as stored with the checkpoint that `open` returned last; else None."""
        return None

    @property
    def merges_flushes(self) -> bool:
        """True when a large flush costs much less than many small ones: eager flushes are merged until `flush_rows`,
        `flush_bytes` or `flush_interval_s` is due.
        """
        return False

    @property
    def writes_json(self) -> bool:
        """True when the sink writes envelopes, so that images of small flushes are rendered where they are decoded."""
        return False

    def watch(self) -> None:
        """Compare the destination with the state that `open` found; called every few seconds by the writing thread.

        Raises SinkError when the destination was changed or deleted.
        """
        return

    def start(self, flush: Flush, done: Callable[[Exception | None], None]) -> bool:
        """Begin to store a small flush, without waiting; called by the thread of the tail while no other method runs.

        Returns False if that is not possible, so that `write` follows. Else `done` is called once, in any thread: with
        None when the flush is durable, or with an error, after which `write` is called for the flush.
        """
        return False

    def prepare(self, flush: Flush) -> None:
        """A hint from the writing thread: this flush follows after the next `write`. Never raises."""
        return

    def note_case(self, lower_case_table_names: str) -> None:
        """Store how the server compares table names, for the readers of the sink; called after `open`."""
        return

    def stored_tables(self, source: str) -> Set[tuple[str, str]]:
        """(database, table) of each table with stored changes, if the sink can list them. Raises SinkError."""
        return frozenset()

    def find_readers(self, source: str) -> Mapping[str, Collection[tuple[str, str]]]:
        """Prepare the destination for rows that are for one consumer alone, and list the consumers that can get them.

        Returns client id -> (database, table) of each table that it reads. Raises ConfigError if the destination cannot
        have such rows, SinkError.
        """
        return {}

    def direct_rows(self, source: str, prefix: str | None, tables: Collection[tuple[str, str]]) -> None:
        """Make one consumer read rows of these tables that are for it alone, before the first of them is stored.

        `prefix` is that of the subjects of the rows (codec/subjects.py); None when there are no such rows. Raises
        SinkError.
        """
        return

    def consumed_tables(self, source: str) -> Set[tuple[str, str]]:
        """(database, table) of each table with a consumer, also without stored changes. Raises SinkError."""
        return frozenset()
