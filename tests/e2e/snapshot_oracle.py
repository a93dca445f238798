"""Checks a stream with the rows of a snapshot: at each row and at the end, what was delivered equals the table.

The truth is the binlog of the server from the creation of the tables on, read without the stream.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from binlogsync.change import RowChange
from binlogsync.mysql import MySQLConfig
from binlogsync.position import BinlogPosition
from tests.e2e.oracle import binlog_changes, envelopes

Place: TypeAlias = tuple[int, int]
Key: TypeAlias = tuple[Any, ...]
Values: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class CheckedTable:
    """A table of the test: its key and other columns, and the order of its keys as the server has it."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    order: Callable[[Key], Any] = lambda key: key

    def split(self, row: dict[str, Any]) -> tuple[Key, Values]:
        return tuple(row[name] for name in self.key), tuple(row[name] for name in self.values)


@dataclass
class _Rows:
    """Rows of one table, as changes make them."""

    table: CheckedTable
    rows: dict[Key, Values] = field(default_factory=dict)

    def apply(self, op: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        if op == "t":
            self.rows.clear()
        if before is not None:
            self.rows.pop(self.table.split(before)[0], None)
        if after is not None:
            key, values = self.table.split(after)
            self.rows[key] = values


@dataclass
class StreamFaults:
    """What is wrong in a stream: sentences, at most a few of each kind; and how many rows a snapshot published."""

    sentences: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= 3:
            self.sentences.append(f"{kind}: {text}")


def check_stream(
    config: MySQLConfig,
    url: str,
    database: str,
    tables: Sequence[CheckedTable],
    select: Callable[[str], list[tuple[Any, ...]]],
    *,
    may_repeat: bool = False,
    client_id: str | None = None,
) -> StreamFaults:
    """Compare the stream with the binlog at each row of a snapshot, and with SELECT at the end.

    With a `client_id`, the stream as that client reads it. `may_repeat`: whether a row may be published again, because
    the table was replaced or requested again.
    """
    return check_envelopes(envelopes(url, config.source, client_id), config, database, tables, select, may_repeat)


def check_envelopes(
    read: Sequence[dict[str, Any]],
    config: MySQLConfig,
    database: str,
    tables: Sequence[CheckedTable],
    select: Callable[[str], list[tuple[Any, ...]]],
    may_repeat: bool = False,
    changes: Sequence[RowChange] | None = None,
) -> StreamFaults:
    """`check_stream` for what was read from a stream, and from the binlog if that was read."""
    faults = StreamFaults()
    stream = [each for each in read if each["source"]["db"] == database]
    changes = binlog_changes(config, database) if changes is None else changes
    for table in tables:
        _check_table(table, stream, [c for c in changes if c.source.table == table.name], faults, may_repeat)
        names = ", ".join((*table.key, *table.values))
        wanted = {row[: len(table.key)]: row[len(table.key) :] for row in select(f"SELECT {names} FROM {table.name}")}
        found = delivered_rows(table, stream)
        for key in sorted(wanted.keys() | found.keys(), key=repr):
            if found.get(key) != wanted.get(key):
                faults.add("end", f"{table.name} {key}: {found.get(key)}, the table has {wanted.get(key)}")
    ids = Counter(_id(each) for each in stream)
    for name, count in ids.items():
        if count > 1:
            faults.add("id", f"{name} occurs {count} times")
    coordinates = [_coordinates(each) for each in stream]
    for before, after in zip(coordinates, coordinates[1:], strict=False):
        if before >= after:
            faults.add("order", f"{after} follows {before}")
    return faults


def delivered_rows(table: CheckedTable, stream: Sequence[dict[str, Any]]) -> dict[Key, Values]:
    """Values of each key after all changes and rows of the stream."""
    state = _Rows(table)
    for each in stream:
        if each["source"]["table"] == table.name:
            state.apply(each["op"], each["before"], each["after"])
    return state.rows


def _check_table(
    table: CheckedTable,
    stream: Sequence[dict[str, Any]],
    changes: Sequence[Any],
    faults: StreamFaults,
    may_repeat: bool,
) -> None:
    state, truth = _Rows(table), _Rows(table)
    at, seen = 0, set[tuple[str, Key]]()
    for each in stream:
        if each["source"]["table"] != table.name:
            continue
        if each["op"] != "r":
            state.apply(each["op"], each["before"], each["after"])
            continue
        place = place_of_envelope(each)
        while at < len(changes) and place_of_change(changes[at]) <= place:
            truth.apply(changes[at].op, changes[at].before, changes[at].after)
            at += 1
        key, values = table.split(each["after"])
        faults.published[table.name] += 1
        if truth.rows.get(key) != values:
            faults.add("stale", f"{table.name} {key} at {place}: {values}, the table has {truth.rows.get(key)}")
        if (each["transaction"]["id"], key) in seen and not may_repeat:
            faults.add("double", f"{table.name} {key} at {place}")
        seen.add((each["transaction"]["id"], key))
        state.apply("r", None, each["after"])
        if not state.rows.items() <= truth.rows.items():  # the comparison of each row alone takes ten times as long
            for known, value in state.rows.items():
                if truth.rows.get(known) != value:
                    wanted = truth.rows.get(known)
                    faults.add("wrong", f"{table.name} {known} at {place}: {value}, the table has {wanted}")
        last = table.order(key)
        for known in truth.rows.keys() - state.rows.keys():
            if table.order(known) <= last:
                faults.add("missing", f"{table.name} {known} at {place}, when {key} was published")


def place_of_change(change: Any) -> Place:
    """(file number, offset) of a change in the binlog."""
    return change.source.position.file_number, change.source.pos


def place_of_envelope(envelope: dict[str, Any]) -> Place:
    """The same of a message."""
    return BinlogPosition(envelope["source"]["file"], 0).file_number, envelope["source"]["pos"]


def _id(envelope: dict[str, Any]) -> str:
    return f"{envelope['transaction']['id']}:{envelope['transaction']['total_order']}"


def _coordinates(envelope: dict[str, Any]) -> tuple[int, int, int]:
    return *place_of_envelope(envelope), envelope["source"]["row"]
