"""Where consumers and replays store changes: what these need from a target. DuckDB is the first implementation.

A new target is a package that implements `TableStore` and `TableTransaction`, and passes tests/targets/contract.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from binlogsync.targets.progress import ConsumerProgress, ProgressKey
from binlogsync.targets.records import ConsumerGap, ReplayRecord, RewindRecord, Skip


class TableTransaction(Protocol):
    """One transaction: everything that is done in it becomes visible and durable at once, or nothing of it."""

    @property
    @abstractmethod
    def connection(self) -> Any:
        """The connection of the client library, for a user's handler that writes into the same transaction."""

    # Progress, and what is recorded with it.

    @abstractmethod
    def load_progress(self, key: ProgressKey) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer."""

    @abstractmethod
    def move_progress(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Store `after` if `before` is still stored; returns it as stored, with the next epoch.

        Raises ConsumeError when another writer has updated it: of two writers only one can commit.
        """

    @abstractmethod
    def forget_progress(self, key: ProgressKey) -> None:
        """Delete the progress: the consumer is new again."""

    @abstractmethod
    def load_gaps(self, key: ProgressKey) -> Sequence[ConsumerGap]:
        """All gaps of a consumer, in order."""

    @abstractmethod
    def insert_gap(self, key: ProgressKey, gap: ConsumerGap) -> None:
        """Store a gap, unless the same gap is already open."""

    @abstractmethod
    def resolve_gaps(self, key: ProgressKey, resolution: str, by: str, until: datetime | None = None) -> None:
        """Resolve all open gaps; those found after `until` stay open."""

    @abstractmethod
    def load_skips(self, key: ProgressKey) -> Sequence[Skip]:
        """The skipped changes of a consumer, in order."""

    @abstractmethod
    def insert_skip(self, skip: Skip) -> None:
        """Store the record of a skipped change."""

    @abstractmethod
    def insert_rewind(self, record: RewindRecord) -> None:
        """Store the record of a rewind."""

    # Replays.

    @abstractmethod
    def load_replay(self, replay: ReplayRecord) -> ReplayRecord | None:
        """The unfinished replay with the same table, request and target; None if there is none."""

    @abstractmethod
    def insert_replay(self, replay: ReplayRecord) -> None:
        """Store that a replay has begun."""

    @abstractmethod
    def move_replay(self, number: str, done: str) -> None:
        """Store the checkpoint after the last stored change of a replay."""

    @abstractmethod
    def finish_replay(self, number: str) -> None:
        """Store that a replay is finished."""


class TableStore(Protocol):
    """A file, database or lake in which tables, and the progress of consumers, are stored in one transaction."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it is: the path of a file, or the address of a server without the password."""

    @abstractmethod
    def begin(self, *, keep_open: bool = False) -> AbstractContextManager[TableTransaction]:
        """One transaction: committed at the end of the block and durable then, or rolled back if the block raises.

        `keep_open` says that another transaction follows at once; the caller calls `release` afterwards.
        """

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """True while this object keeps something open for which other processes wait."""

    @abstractmethod
    def release(self) -> None:
        """Let other processes in."""
