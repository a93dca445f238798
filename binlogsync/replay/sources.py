"""Resolves the bounds of ranges to checkpoints: in MySQL's binlogs, or in the stream where only the stream has them.

Bounds are never rounded: a bound that is not between two transactions, lies in the future, or is no longer available
raises an error that names the oldest data available.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from binlogsync.bookmarks import get_bookmark
from binlogsync.errors import ConfigError, PositionError, SourceError
from binlogsync.mysql import MySQLConfig, inspect_server, resolve_start, validate
from binlogsync.mysql.start import begun_at
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.range_bounds import FORMS, BookmarkName, StreamSequence, checkpoint_after_gtids, parse_bound
from binlogsync.replay.from_stream import StreamRangeReader
from binlogsync.replay.ranges import ReplayRange
from binlogsync.stores import PositionStore
from binlogsync.text_format import format_time


@dataclass(frozen=True, slots=True)
class ChangeSources:
    """The sources that may have a range of one table: MySQL's binlogs and the stream.

    Attributes:
        source: name of the MySQL source.
        config: how to reach MySQL.
        stream: reads the table from the source's stream; None if there is no stream or it does not capture the table.
        store: stores the bookmarks.
    """

    source: str
    config: MySQLConfig
    stream: StreamRangeReader | None
    store: PositionStore

    def resolve(self, text: str) -> Checkpoint:
        """The checkpoint of a bound as the user wrote it (see bounds.py).

        Raises ConfigError for an unknown form, PositionError for a bound that is not available or not a position
        between two transactions, SourceError and StoreError when a server cannot be reached.
        """
        bound = parse_bound(text)
        if isinstance(bound, BookmarkName):
            return self._resolve_bookmark(bound.text)
        if isinstance(bound, StreamSequence):
            return self._resolve_sequence(bound.number)
        if bound == "oldest":
            return self._find_oldest()
        if bound == "head":
            return self._find_head()
        return self._find_in_binlog_or_stream(bound, text)

    def resolve_range(self, start: str, until: str, label: str = "") -> ReplayRange:
        """The range between two bounds; raises as `resolve` does, and ConfigError for bounds in the wrong order."""
        return self.make_range(self.resolve(start), self.resolve(until), label or f"{start} .. {until}")

    def make_range(self, start: Checkpoint, until: Checkpoint, label: str) -> ReplayRange:
        """The range between two checkpoints."""
        if start.server_uuid != until.server_uuid:  # only GTIDs can be compared
            start, until = self._with_gtids(start), self._with_gtids(until)
        return ReplayRange(label, start, until)

    def _with_gtids(self, checkpoint: Checkpoint) -> Checkpoint:
        if checkpoint.gtids is not None or inspect_server(self.config).server_uuid != checkpoint.server_uuid:
            return checkpoint
        return replace(checkpoint, gtids=resolve_start(self.config, checkpoint.position).gtids)

    def _resolve_bookmark(self, text: str) -> Checkpoint:
        try:
            return get_bookmark(self.store.bookmarks.load(self.source), text, self.source).checkpoint
        except ConfigError as error:
            raise ConfigError(f"{error}; and it is not another form of a bound: write {FORMS}") from error

    def _resolve_sequence(self, number: int) -> Checkpoint:
        if self.stream is None:
            raise PositionError(f"seq:{number}: source {self.source} has no stream with changes of this table")
        first, end = self.stream.bounds()
        if not first <= number <= end:
            raise PositionError(
                f"seq:{number}: the stream of {self.source} has sequences {first} to {end - 1} now; "
                f"{self.describe_available()}"
            )
        checkpoint = self.stream.checkpoint_of_sequence(number) or self.stream.end()
        if checkpoint is None:
            raise PositionError(f"seq:{number}: the stream of {self.source} is empty; wait for its tail")
        return checkpoint

    def _find_oldest(self) -> Checkpoint:
        in_stream = self.stream.oldest() if self.stream is not None else None
        try:
            in_binlog = resolve_start(self.config, "oldest")
        except SourceError:
            if in_stream is None:
                raise
            return in_stream[0]
        if in_stream is None or in_stream[0].server_uuid != in_binlog.server_uuid:
            return in_binlog
        return in_stream[0] if compare(in_stream[0], in_binlog) is PositionOrder.BEFORE else in_binlog

    def _find_head(self) -> Checkpoint:
        try:
            return resolve_start(self.config, "now")
        except PositionError:
            raise
        except SourceError:
            end = self.stream.end() if self.stream is not None else None
            if end is None:
                raise
            return end

    def _find_in_binlog_or_stream(self, bound: datetime | GtidSet | BinlogPosition, text: str) -> Checkpoint:
        try:
            if isinstance(bound, GtidSet):
                checkpoint = checkpoint_after_gtids(bound)
                validate(self.config, checkpoint)
                return checkpoint
            return resolve_start(self.config, bound)
        except PositionError as error:
            found = self._find_in_stream(bound) if self._is_purged(bound) else None
            if found is None:
                raise PositionError(f"{text}: {error}; {self.describe_available()}") from error
            return found

    def _is_purged(self, bound: datetime | GtidSet | BinlogPosition) -> bool:
        """True when MySQL has purged the bound; False when the bound never existed."""
        info = inspect_server(self.config)
        if isinstance(bound, GtidSet):
            return info.purged is not None and bound.flavor == info.flavor and not bound.contains(info.purged)
        if isinstance(bound, BinlogPosition):
            return info.has_purged(bound)
        return bound < begun_at(self.config, info, info.files[0].name)

    def _find_in_stream(self, bound: datetime | GtidSet | BinlogPosition) -> Checkpoint | None:
        """The checkpoint of a bound that only the stream still has; None if the stream does not have it either."""
        oldest = self.stream.oldest() if self.stream is not None else None
        if self.stream is None or oldest is None:
            return None
        if isinstance(bound, datetime):
            return self.stream.first_from_time(bound) if oldest[1] < bound else None
        server = oldest[0].server_uuid
        checkpoint = checkpoint_after_gtids(bound) if isinstance(bound, GtidSet) else Checkpoint(bound, server)
        return checkpoint if self.stream.holds_from(checkpoint) else None

    def describe_available(self) -> str:
        """For error messages: the oldest data available, in the stream and in the binlogs."""
        parts = []
        if self.stream is not None:
            oldest = self.stream.oldest()
            changes = (
                "no change of this table"
                if oldest is None
                else f"this table from {format_time(oldest[1])} on (at {oldest[0]})"
            )
            parts.append(f"the stream has {changes}")
        try:
            info = inspect_server(self.config)
            begun = begun_at(self.config, info, info.files[0].name)
            parts.append(f"MySQL's binlogs start with {info.files[0].name} at {format_time(begun)}")
        except (SourceError, IndexError) as error:
            parts.append(f"MySQL is not available ({error})")
        return " and ".join(parts)
