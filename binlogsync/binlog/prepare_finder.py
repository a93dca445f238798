"""Finds the offset at which an XA transaction begins that was prepared in a binlog file, without decoding rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from binlogsync.binlog import events
from binlogsync.binlog.dump_parser import BrokenLogError, Bytes, DumpParser, has_checksums
from binlogsync.binlog.event_index import HEADER_SIZE, EventIndex, IndexedEvents
from binlogsync.binlog.scan_state import ARTIFICIAL, full_position
from binlogsync.binlog.transaction_payload import parse_payload, payload_events
from binlogsync.binlog.xa import parse_prepare

_BEGINS = (events.GTID, 34, events.GTID_TAGGED, events.MARIADB_GTID)  # 34: without GTIDs
_TOLD = (events.XA_PREPARE, events.TRANSACTION_PAYLOAD)
_EVENTS = 1 << 17


class PrepareFinder:
    """Searches a dump that begins at the start of a file.

    Args:
        xid: the xid of the transaction, in the notation of the log.
        before: ignore transactions that begin at or after this offset; None for the whole file.
    """

    def __init__(self, xid: str, before: int | None) -> None:
        self.found: int | None = None
        """Offset at which the last matching transaction begins; None while none is found."""
        self.is_over = False
        """True when the search is complete."""
        self._xid = xid
        self._before = before
        self._pos = 0
        self._begun: int | None = None
        self._inner = EventIndex.room_for(_EVENTS)
        self._parser = DumpParser(EventIndex.room_for(_EVENTS), has_checksums)

    @property
    def server_error(self) -> bytes | None:
        """Payload of the error packet with which the server ended the dump."""
        return self._parser.server_error

    def feed(self, buffer: Bytes, start: int, end: int) -> None:
        """Search buffer[start:end]. Raises ValueError for bytes that are not a binlog."""
        try:
            for indexed in self._parser.parse(buffer, start, end):
                self._scan(indexed)
                if self.is_over:
                    return
        except BrokenLogError as error:
            raise ValueError(f"after offset {self._pos}: {error}") from error
        self.is_over = self._parser.ended

    def _scan(self, indexed: IndexedEvents) -> None:
        kinds = indexed.index.kind[: indexed.count]
        rotations = [i for i in np.flatnonzero(kinds == events.ROTATE).tolist() if _is_logged(indexed, i)]
        begins = np.flatnonzero(np.isin(kinds, _BEGINS))
        for i in np.flatnonzero(np.isin(kinds, _TOLD)).tolist():
            if rotations and i > rotations[0]:
                break
            at = int(np.searchsorted(begins, i)) - 1
            begun = self._begin_of(indexed, int(begins[at])) if at >= 0 else self._begun
            if begun is not None and self._before is not None and begun >= self._before:
                self.is_over = True
                return
            if any(str(xid) == self._xid for xid in self._prepared_by(indexed, i)):
                self.found = begun
        if len(begins):
            self._begun = self._begin_of(indexed, int(begins[-1]))
            self._pos = self._begun
        self.is_over = bool(rotations)

    def _begin_of(self, indexed: IndexedEvents, i: int) -> int:
        """Offset at which the event begins; its header contains the offset of its end."""
        header = indexed.event(i)[:HEADER_SIZE].tobytes()
        size, end = int.from_bytes(header[9:13], "little"), int.from_bytes(header[13:17], "little")
        return int(full_position(self._pos, end)) - size

    def _prepared_by(self, indexed: IndexedEvents, i: int) -> Iterator[object]:
        """The xids that an event prepares: an XA_PREPARE, or the ones inside a TRANSACTION_PAYLOAD."""
        event = indexed.event(i)
        if event[4] == events.XA_PREPARE:
            one_phase, xid = parse_prepare(event[HEADER_SIZE:].tobytes())
            if not one_phase:
                yield xid
            return
        for inner in payload_events(parse_payload(event[HEADER_SIZE:]), self._inner):
            for k in np.flatnonzero(inner.index.kind[: inner.count] == events.XA_PREPARE).tolist():
                yield from self._prepared_by(inner, k)


def _is_logged(indexed: IndexedEvents, i: int) -> bool:
    """True for an event of the file; the first rotation of a dump is artificial."""
    return not int.from_bytes(indexed.event(i)[17:19].tobytes(), "little") & ARTIFICIAL
