"""Ends of ranges to places: MySQL is asked where its binlogs still hold an end, the stream where it alone does.

Nothing is rounded: what is no boundary between two transactions, lies in the future, or is held by nobody any more, is
an error that says from when on data exists.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from binlogsync.backfill.ends import FORMS, Named, Sequence, behind_gtids, parse_end
from binlogsync.backfill.from_stream import StreamRange
from binlogsync.backfill.ranges import Span
from binlogsync.bookmarks import get_bookmark
from binlogsync.errors import ConfigError, PositionError, SourceError
from binlogsync.mysql import MySQLConfig, inspect_server, resolve_start, validate
from binlogsync.mysql.start import begun_at
from binlogsync.position import BinlogPosition, Checkpoint, GtidSet
from binlogsync.stores import PositionStore


@dataclass(frozen=True, slots=True)
class Holders:
    """Who may hold a range of one table.

    Attributes:
        source: name of the source.
        config: how to reach MySQL.
        stream: a look into the source's stream; None where there is none, or it does not capture the table.
        store: holds the bookmarks.
    """

    source: str
    config: MySQLConfig
    stream: StreamRange | None
    store: PositionStore

    def place(self, text: str) -> Checkpoint:
        """The place of an end, as it is written (see ends.py).

        Raises ConfigError for what is not understood, PositionError for a place that nobody holds or that is none,
        SourceError and StoreError when a server cannot be asked.
        """
        end = parse_end(text)
        if isinstance(end, Named):
            return self._bookmarked(end.text)
        if isinstance(end, Sequence):
            return self._of_sequence(end.number)
        if end == "oldest":
            return self._oldest()
        if end == "head":
            return self._head()
        return self._in_binlog_or_stream(end, text)

    def span(self, start: str, until: str, label: str = "") -> Span:
        """The range between two ends; raises as `place` does, and ConfigError for ends in the wrong order."""
        return self.span_of(self.place(start), self.place(until), label or f"{start} .. {until}")

    def span_of(self, start: Checkpoint, until: Checkpoint, label: str) -> Span:
        """The range between two places."""
        if start.server_uuid != until.server_uuid:  # only GTIDs can tell which is before the other
            start, until = self._with_gtids(start), self._with_gtids(until)
        return Span(label, start, until)

    def _with_gtids(self, place: Checkpoint) -> Checkpoint:
        if place.gtids is not None or inspect_server(self.config).server_uuid != place.server_uuid:
            return place
        return replace(place, gtids=resolve_start(self.config, place.position).gtids)

    def _bookmarked(self, text: str) -> Checkpoint:
        try:
            return get_bookmark(self.store.bookmarks(self.source), text, self.source).checkpoint
        except ConfigError as error:
            raise ConfigError(f"{error}; and no other end of a range: write {FORMS}") from error

    def _of_sequence(self, number: int) -> Checkpoint:
        if self.stream is None:
            raise PositionError(f"seq:{number}: source {self.source} has no stream with changes of this table")
        first, beyond = self.stream.bounds()
        if not first <= number <= beyond:
            raise PositionError(
                f"seq:{number}: the stream of {self.source} holds sequences {first} to {beyond - 1} now; "
                f"{self.data_exists()}"
            )
        place = self.stream.place_of_sequence(number) or self.stream.end()
        if place is None:
            raise PositionError(f"seq:{number}: the stream of {self.source} is empty; wait for its tail")
        return place

    def _oldest(self) -> Checkpoint:
        held = self.stream.oldest() if self.stream is not None else None
        try:
            oldest = resolve_start(self.config, "oldest")
        except SourceError:
            if held is None:
                raise
            return held[0]
        if held is not None and held[0].server_uuid == oldest.server_uuid and held[0].precedes(oldest):
            return held[0]
        return oldest

    def _head(self) -> Checkpoint:
        try:
            return resolve_start(self.config, "now")
        except PositionError:
            raise
        except SourceError:
            end = self.stream.end() if self.stream is not None else None
            if end is None:
                raise
            return end

    def _in_binlog_or_stream(self, end: datetime | GtidSet | BinlogPosition, text: str) -> Checkpoint:
        try:
            if isinstance(end, GtidSet):
                place = behind_gtids(end)
                validate(self.config, place)
                return place
            return resolve_start(self.config, end)
        except PositionError as error:
            held = self._in_stream(end) if self._is_gone(end) else None
            if held is None:
                raise PositionError(f"{text}: {error}; {self.data_exists()}") from error
            return held

    def _is_gone(self, end: datetime | GtidSet | BinlogPosition) -> bool:
        """True when MySQL has purged the end; False when there was never such a place."""
        info = inspect_server(self.config)
        if isinstance(end, GtidSet):
            return info.purged is not None and end.flavor == info.flavor and not end.contains(info.purged)
        if isinstance(end, BinlogPosition):
            return end.file_number < info.files[0].number
        return end < begun_at(self.config, info, info.files[0].name)

    def _in_stream(self, end: datetime | GtidSet | BinlogPosition) -> Checkpoint | None:
        """The place, where the stream reaches further back than the binlogs."""
        held = self.stream.oldest() if self.stream is not None else None
        if self.stream is None or held is None:
            return None
        if isinstance(end, datetime):
            return self.stream.first_from_time(end) if held[1] < end else None
        place = behind_gtids(end) if isinstance(end, GtidSet) else Checkpoint(end, held[0].server_uuid)
        return place if self.stream.holds_from(place) else None

    def data_exists(self) -> str:
        """For errors: from when on, and where, data exists."""
        parts = []
        if self.stream is not None:
            held = self.stream.oldest()
            said = "nothing of this table" if held is None else f"this table from {_text(held[1])} on (at {held[0]})"
            parts.append(f"the stream holds {said}")
        try:
            info = inspect_server(self.config)
            begun = begun_at(self.config, info, info.files[0].name)
            parts.append(f"MySQL's binlogs begin with {info.files[0].name} at {_text(begun)}")
        except (SourceError, IndexError) as error:
            parts.append(f"MySQL cannot be asked ({error})")
        return " and ".join(parts)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
