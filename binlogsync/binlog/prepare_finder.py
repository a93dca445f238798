"""Bytes of a dump of one binlog file -> where a transaction begins that is prepared in it, and nothing else."""

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
    """Takes the bytes of a dump that begins at the head of a file.

    Args:
        xid: names the transaction, as servers log it.
        before: only what begins at an offset before this one counts; None for the whole file.
    """

    def __init__(self, xid: str, before: int | None) -> None:
        self.found: int | None = None
        """Offset at which the transaction begins that was prepared last; None as long as none is found."""
        self.is_over = False
        """True when there is no more to be found."""
        self._xid = xid
        self._before = before
        self._pos = 0
        self._begun: int | None = None
        self._inner = EventIndex.room_for(_EVENTS)
        self._walk = DumpParser(EventIndex.room_for(_EVENTS), has_checksums)

    @property
    def server_error(self) -> bytes | None:
        """Payload of the error packet with which the server has ended the dump."""
        return self._walk.server_error

    def feed(self, buffer: Bytes, start: int, end: int) -> None:
        """Look at buffer[start:end]. Raises ValueError for bytes that are no binlog."""
        try:
            for part in self._walk.parts(buffer, start, end):
                self._look(part)
                if self.is_over:
                    return
        except BrokenLogError as error:
            raise ValueError(f"behind offset {self._pos} {error}") from error
        self.is_over = self._walk.ended

    def _look(self, part: IndexedEvents) -> None:
        kinds = part.index.kind[: part.count]
        rotations = [i for i in np.flatnonzero(kinds == events.ROTATE).tolist() if _is_logged(part, i)]
        begins = np.flatnonzero(np.isin(kinds, _BEGINS))
        for i in np.flatnonzero(np.isin(kinds, _TOLD)).tolist():
            if rotations and i > rotations[0]:
                break
            at = int(np.searchsorted(begins, i)) - 1
            begun = self._begin_of(part, int(begins[at])) if at >= 0 else self._begun
            if begun is not None and self._before is not None and begun >= self._before:
                self.is_over = True
                return
            if any(str(xid) == self._xid for xid in self._prepared_by(part, i)):
                self.found = begun
        if len(begins):
            self._begun = self._begin_of(part, int(begins[-1]))
            self._pos = self._begun
        self.is_over = bool(rotations)

    def _begin_of(self, part: IndexedEvents, i: int) -> int:
        """Where the event begins, whose place is told by its end."""
        header = part.event(i)[:HEADER_SIZE].tobytes()
        size, end = int.from_bytes(header[9:13], "little"), int.from_bytes(header[13:17], "little")
        return int(full_position(self._pos, end)) - size

    def _prepared_by(self, part: IndexedEvents, i: int) -> Iterator[object]:
        """The transactions that an event prepares: itself, or what it holds compressed."""
        event = part.event(i)
        if event[4] == events.XA_PREPARE:
            one_phase, xid = parse_prepare(event[HEADER_SIZE:].tobytes())
            if not one_phase:
                yield xid
            return
        for inner in payload_events(parse_payload(event[HEADER_SIZE:]), self._inner):
            for k in np.flatnonzero(inner.index.kind[: inner.count] == events.XA_PREPARE).tolist():
                yield from self._prepared_by(inner, k)


def _is_logged(part: IndexedEvents, i: int) -> bool:
    """True for an event of the file; the rotation with which a dump begins is made up."""
    return not int.from_bytes(part.event(i)[17:19].tobytes(), "little") & ARTIFICIAL
