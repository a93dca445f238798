"""Positions in a binary log: frozen values that parse and print; position_order.py compares them. No I/O.

`BinlogPosition` is a file name and an offset, `GtidSet` the transactions already executed. `Checkpoint` combines them
with the server they belong to, and the number of changes of an incomplete transaction that are stored already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from binlogsync.errors import PositionError, excerpt
from binlogsync.gtid_text import Interval, is_mariadb_text, parse_mariadb_text, parse_mysql_text
from binlogsync.log_identity import LogIdentity
from binlogsync.server_version import ServerFlavor

SNAPSHOT = "snapshot:"
"""Begin of the GTID of a row that a snapshot has published into the stream; the id of the snapshot follows.

For a table that is published as a whole, a colon and the word of SNAPSHOT_STAGES follow.
"""
SNAPSHOT_STAGES = ("first", "true", "last")
"""Debezium's words for a table that is published as a whole: "first" for the reset before its rows (op "t"), "true" for
its rows (op "r"), "last" for the last of them, or for the reset of an empty table."""
FIRST_ORDINAL = 1 << 31
"""First number (`row`, `order`) of such rows. No transaction has so many changes, so that at one position they follow
all changes."""

_FILE = re.compile(r"^(?P<base>.*?)\.?(?P<number>[0-9]+)$")
_NUMBER = re.compile(r"^[0-9]+$")
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class BinlogPosition:
    """The position after an event: file name and byte offset.

    >>> BinlogPosition.parse("binlog.000042:1187")
    BinlogPosition(file='binlog.000042', pos=1187)
    """

    file: str
    pos: int

    @classmethod
    def parse(cls, text: str) -> BinlogPosition:
        """Read "file:offset" as printed by str(); raises PositionError."""
        file, colon, pos = text.strip().rpartition(":")
        if not colon or not _NUMBER.match(pos) or not _FILE.match(file):
            raise PositionError(f"{text!r} is not a binlog position; write it as binlog.000042:1187")
        return cls(file, int(pos))

    @property
    def file_number(self) -> int:
        """The number that ends the file name: binlog.1000000 comes after binlog.999999."""
        match = _FILE.match(self.file)
        if match is None:
            raise PositionError(f"{self.file!r} is not a binlog file name: it does not end in a number")
        return int(match["number"])

    def __str__(self) -> str:
        return f"{self.file}:{self.pos}"


def _merge(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Sorted, joined intervals, both ends included."""
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class GtidSet:
    """The transactions a server or a sink already has.

    MySQL: "uuid:1-5:7,uuid:tag:1-3" (tags since 8.3); `members` maps "uuid" or "uuid:tag" to its intervals, ends
    included. MariaDB: "0-1-100,1-2-7", one position a domain; `members` maps "domain" to ((server_id, sequence),), and
    contains every lower sequence of that domain.
    """

    flavor: ServerFlavor = ServerFlavor.MYSQL
    members: Mapping[str, tuple[Interval, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, flavor: ServerFlavor | None = None) -> GtidSet:
        """Read either server's text; an empty text is the empty set (of `flavor`, by default MySQL).

        Raises PositionError.
        """
        if not text.strip():
            return cls(flavor or ServerFlavor.MYSQL)
        if flavor == ServerFlavor.MARIADB or (flavor is None and is_mariadb_text(text)):
            return cls._parse_mariadb(text)
        members: dict[str, list[Interval]] = {}
        for key, interval in parse_mysql_text(text):
            members.setdefault(key, []).append(interval)
        return cls(ServerFlavor.MYSQL, {key: _merge(members[key]) for key in sorted(members)})

    @classmethod
    def _parse_mariadb(cls, text: str) -> GtidSet:
        last: dict[str, Interval] = {}
        for domain, server, sequence in parse_mariadb_text(text):
            if sequence >= last.get(str(domain), (0, 0))[1]:  # @@gtid_binlog_state names a domain once a server
                last[str(domain)] = (server, sequence)
        return cls(ServerFlavor.MARIADB, {domain: (last[domain],) for domain in sorted(last)})

    def __str__(self) -> str:
        if self.flavor == ServerFlavor.MARIADB:
            return ",".join(f"{domain}-{pairs[0][0]}-{pairs[0][1]}" for domain, pairs in self.members.items())
        return ",".join(
            f"{key}:{':'.join(str(a) if a == b else f'{a}-{b}' for a, b in intervals)}"
            for key, intervals in self.members.items()
        )

    def __bool__(self) -> bool:
        return bool(self.members)

    def with_run(self, key: str, first: int, last: int) -> GtidSet:
        """This set and the transactions first..last of `key`: "uuid", "uuid:tag" or MariaDB's "domain-server_id"."""
        members = dict(self.members)
        if self.flavor == ServerFlavor.MARIADB:
            domain, _, server = key.partition("-")
            members[domain] = ((int(server), last),)
        else:
            members[key] = _merge((*members.get(key, ()), (first, last)))
        return GtidSet(self.flavor, {name: members[name] for name in sorted(members)})

    def with_gtid(self, gtid: str) -> GtidSet:
        """This set and one transaction, written as the server writes it."""
        if self.flavor == ServerFlavor.MARIADB:
            domain, server, sequence = gtid.split("-")
            return self.with_run(f"{domain}-{server}", int(sequence), int(sequence))
        key, _, number = gtid.rpartition(":")
        return self.with_run(key, int(number), int(number))

    def union(self, other: GtidSet) -> GtidSet:
        """All transactions of both; for MariaDB the higher sequence of each domain.

        Raises PositionError for a set of MySQL and one of MariaDB.
        """
        if not other:
            return self
        if self.flavor != other.flavor:
            raise PositionError(
                f"GTIDs of {self.flavor} and of {other.flavor} cannot be joined: {self} and {other} are of two sources"
            )
        result = self
        for key, intervals in other.members.items():
            for first, last in intervals:
                if self.flavor == ServerFlavor.MARIADB:
                    mine = result.members.get(key)
                    if mine is None or mine[0][1] < last:
                        result = result.with_run(f"{key}-{first}", last, last)
                else:
                    result = result.with_run(key, first, last)
        return result

    def has(self, gtid: str) -> bool:
        """True when this one transaction, written as the server writes it, is in the set."""
        return self.contains(GtidSet(self.flavor).with_gtid(gtid))

    def contains(self, other: GtidSet) -> bool:
        """True when every transaction of `other` is in this set."""
        if self.flavor == ServerFlavor.MARIADB:
            return all(
                key in self.members and self.members[key][0][1] >= pairs[0][1] for key, pairs in other.members.items()
            )
        return all(
            any(a <= first and last <= b for a, b in self.members.get(key, ()))
            for key, intervals in other.members.items()
            for first, last in intervals
        )


@dataclass(frozen=True, slots=True)
class ResumePosition:
    """A transaction boundary before an XA transaction that is prepared but not committed; `gtids` as in Checkpoint."""

    position: BinlogPosition
    gtids: GtidSet | None = None


@dataclass(frozen=True, slots=True)
class EventPosition:
    """Position of one row change, or of a statement.

    Attributes:
        position: the position after the event, in the binlog of the server `server_uuid`.
        gtid: of its transaction, or the name of the snapshot that has published the row; None if the server has no
            GTIDs.
        row: number of the row in the event; 0 for a statement.
        order: number of the row change in its transaction; 0 for a statement.
    """

    position: BinlogPosition
    server_uuid: str
    gtid: str | None = None
    row: int = 0
    order: int = 0

    @property
    def transaction(self) -> str | None:
        """GTID of its transaction; None without GTIDs, and for a row that a snapshot has published."""
        return None if self.gtid is None or self.gtid.startswith(SNAPSHOT) else self.gtid


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a restart resumes: a transaction boundary, or (the start of a transaction, changes of it already stored).

    Attributes:
        position: the boundary in the binlog of the server `server_uuid`.
        server_uuid: that server (MySQL's server_uuid; MariaDB has none: "mariadb:<server_id>").
        gtids: all transactions before the boundary if the server has GTIDs, else None.
        skip: number of changes of the transaction after the boundary that are stored already (counting all its row
            changes in binlog order, also those of excluded tables). From FIRST_ORDINAL on, that of rows which a
            snapshot has published at the boundary: the transaction follows these, and nothing of it is stored.
        ts_us: commit time of the last stored change, microseconds since 1970 UTC; 0 when there is none.
        resume: where reading must start if that is before the boundary: changes of an XA transaction are logged when
            it is prepared, but take effect when it is committed. The changes between are stored already.
        inside: GTID of the transaction that `skip` refers to, with which another server can continue inside it;
            None at a boundary, and without GTIDs.
        log: identity of the log of the position; None if unknown (written by an older version, or given by a user).
        sequence: stream sequence of the message that contains this checkpoint; None if unknown.

    `log` and `sequence` are ignored when checkpoints are tested for equality.
    """

    position: BinlogPosition
    server_uuid: str
    gtids: GtidSet | None = None
    skip: int = 0
    ts_us: int = 0
    resume: ResumePosition | None = None
    inside: str | None = None
    log: LogIdentity | None = field(default=None, compare=False)
    sequence: int | None = field(default=None, compare=False)

    def to_text(self) -> str:
        """One line of JSON, as used in stores, headers and audit logs."""
        record: dict[str, object] = {"file": self.position.file, "pos": self.position.pos, "server": self.server_uuid}
        if self.gtids is not None:
            record |= {"flavor": self.gtids.flavor, "gtids": str(self.gtids)}
        record |= {"skip": self.skip, "ts_us": self.ts_us}
        if self.resume is not None:
            place = {"file": self.resume.position.file, "pos": self.resume.position.pos}
            record["resume"] = place if self.resume.gtids is None else {**place, "gtids": str(self.resume.gtids)}
        if self.inside is not None:
            record["inside"] = self.inside
        if self.log is not None:
            record["log"] = self.log.to_record()
        if self.sequence is not None:
            record["sequence"] = self.sequence
        return _ENCODER.encode(record)

    @classmethod
    def from_text(cls, text: str | bytes) -> Checkpoint:
        """Read what to_text wrote; raises PositionError."""
        try:
            record = json.loads(text)
            gtids = GtidSet.parse(record["gtids"], ServerFlavor(record["flavor"])) if "gtids" in record else None
            position = BinlogPosition(str(record["file"]), int(record["pos"]))
            resume = _resume(record["resume"], gtids) if "resume" in record else None
            inside = str(record["inside"]) if "inside" in record else None
            skip, ts_us = int(record["skip"]), int(record["ts_us"])
            log = LogIdentity.from_record(record["log"]) if "log" in record else None
            sequence = int(record["sequence"]) if "sequence" in record else None
            return cls(position, str(record["server"]), gtids, skip, ts_us, resume, inside, log, sequence)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise PositionError(f"not a checkpoint: {excerpt(text)} ({excerpt(str(error))})") from error

    def read_start(self) -> Checkpoint:
        """Where reading starts for a restart here; sinks filter the changes between, which they have."""
        if self.resume is None:
            return self
        position, gtids = self.resume.position, self.resume.gtids
        return replace(self, position=position, gtids=gtids, skip=0, resume=None, inside=None, log=None, sequence=None)

    def at_boundary(self) -> Checkpoint:
        """The same boundary with no change of its transaction stored."""
        return replace(self, skip=0, inside=None, sequence=None)

    def at_sequence(self, sequence: int | None) -> Checkpoint:
        """The same checkpoint in the message with that stream sequence."""
        # For each message: `replace` takes several times as long.
        return Checkpoint(
            self.position,
            self.server_uuid,
            self.gtids,
            self.skip,
            self.ts_us,
            self.resume,
            self.inside,
            self.log,
            sequence,
        )

    def __str__(self) -> str:
        return f"{self.position}{f'+{self.skip}' if self.skip else ''}"


def _resume(record: Mapping[str, Any], gtids: GtidSet | None) -> ResumePosition:
    """As to_text wrote it."""
    position = BinlogPosition(str(record["file"]), int(record["pos"]))
    return ResumePosition(position, GtidSet.parse(record["gtids"], gtids.flavor) if gtids is not None else None)
