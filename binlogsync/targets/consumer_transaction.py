"""What a consumer stores in a transaction of a target besides rows: progress, and records of what happened to it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from binlogsync.targets.progress import ConsumerProgress, ProgressKey
    from binlogsync.targets.records import ConsumerGap, ReplayRecord, RewindRecord, Skip


class ConsumerTransaction(Protocol):
    """The part of a TableTransaction about consumers and replays."""

    @property
    @abstractmethod
    def connection(self) -> Any:
        """The connection of the client library, for a user's handler that writes into the same transaction."""

    @abstractmethod
    def load_progress(self, key: ProgressKey) -> ConsumerProgress:
        """The stored progress; NO_PROGRESS for a new consumer."""

    @abstractmethod
    def move_progress(self, key: ProgressKey, before: ConsumerProgress, after: ConsumerProgress) -> ConsumerProgress:
        """Store `after` if `before` is still stored; returns it as stored, with the next epoch.

        Raises ConsumeError when another writer has updated it: of two writers only one can commit.
        """

    def move_all_progress(
        self, moves: Sequence[tuple[ProgressKey, ConsumerProgress, ConsumerProgress]]
    ) -> Sequence[ConsumerProgress]:
        """`move_progress` for several consumers (key, before, after), of which none occurs twice."""
        return [self.move_progress(key, before, after) for key, before, after in moves]

    @abstractmethod
    def forget_progress(self, key: ProgressKey) -> None:
        """Delete the progress: the consumer is new again."""

    @abstractmethod
    def list_consumers(self, database: str, table: str) -> Sequence[ProgressKey]:
        """All consumers of a table with stored progress, without replays."""

    @abstractmethod
    def load_all_progress(self) -> Mapping[ProgressKey, ConsumerProgress]:
        """The progress of all consumers and of unfinished replays. Changes nothing, also in a new store."""

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
    def load_replays(self) -> Sequence[ReplayRecord]:
        """All replays, in the order in which they began. Changes nothing, also in a new store."""

    @abstractmethod
    def insert_replay(self, replay: ReplayRecord) -> None:
        """Store that a replay has begun."""

    @abstractmethod
    def finish_replay(self, number: str) -> None:
        """Store that a replay is finished."""

    @abstractmethod
    def forget_replay(self, replay: ReplayRecord) -> None:
        """Delete the record of a replay and its progress: it cannot be resumed, and a process that runs it fails."""
