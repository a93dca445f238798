"""Tables without a key: writers that make equal rows, and a check of a stream that publishes one as a whole."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import nats
from pymysql.cursors import Cursor

from binlogsync.codec import subjects
from binlogsync.mysql import MySQLConfig
from tests.databases import FreshDatabase
from tests.e2e.oracle import binlog_changes, envelopes
from tests.e2e.snapshot_oracle import (
    CheckedTable,
    StreamFaults,
    check_envelopes,
    place_of_change,
    place_of_envelope,
)

Row: TypeAlias = tuple[Any, ...]
HEAP = "heap"
_COLUMNS = ("a", "b")


def create_heap(database: FreshDatabase, rows: int = 200) -> None:
    """`heap` has neither a key nor distinct rows."""
    database.execute(f"CREATE TABLE {HEAP} (a INT, b VARCHAR(20))")
    for start in range(0, rows, 1000):
        values = ", ".join(f"({n % 20}, 'old')" for n in range(start, min(rows, start + 1000)))
        database.execute(f"INSERT INTO {HEAP} VALUES {values}")


def _insert(cursor: Cursor, chance: random.Random) -> None:
    row = (chance.randrange(20), chance.choice(("old", "new", None)))
    cursor.execute(f"INSERT INTO {HEAP} VALUES (%s, %s), (%s, %s)", row * 2)


def _update(cursor: Cursor, chance: random.Random) -> None:
    numbers = (chance.randrange(20), chance.randrange(20), chance.choice((1, 5)))
    cursor.execute(f"UPDATE {HEAP} SET a = %s, b = 'moved' WHERE a = %s LIMIT %s", numbers)


def _delete(cursor: Cursor, chance: random.Random) -> None:
    cursor.execute(f"DELETE FROM {HEAP} WHERE a = %s LIMIT 3", (chance.randrange(20),))


def _write_others(cursor: Cursor, chance: random.Random) -> None:
    number = chance.randrange(400)
    cursor.execute("REPLACE INTO numbers VALUES (%s, %s, 'new')", (number, chance.randrange(10**6)))


HEAP_OPERATIONS = (_insert, _insert, _update, _delete, _write_others, _write_others)


def check_heap(
    config: MySQLConfig,
    url: str,
    database: str,
    select: Callable[[str], list[tuple[Any, ...]]],
    keyed: Sequence[CheckedTable] = (),
) -> StreamFaults:
    """Compare the stream with the binlog after the last row of each snapshot, and with SELECT at the end.

    After it, each change has to find the rows that it changes. `published` counts the snapshots that are complete. The
    tables `keyed` have a key, and are checked as by `check_stream`.
    """
    found, logged = envelopes(url, config.source), binlog_changes(config, database)
    faults = check_envelopes(found, config, database, keyed, select, may_repeat=True, changes=logged)
    stream = [each for each in found if _is_of(each, database)]
    changes = [each for each in logged if each.source.table == HEAP]
    state, truth = Counter[Row](), Counter[Row]()
    at, is_complete = 0, False
    for each in stream:
        stage, here = each["source"]["snapshot"], place_of_envelope(each)
        if each["op"] == "t":
            state.clear()
        _apply(state, each["before"], each["after"])
        if stage == "last":
            while at < len(changes) and place_of_change(changes[at]) <= here:
                if changes[at].op == "t":
                    truth.clear()
                _apply(truth, changes[at].before, changes[at].after)
                at += 1
            faults.published[HEAP] += 1
            if +state != +truth:
                faults.add("wrong", f"at {here}: {(state - truth)} more, {(truth - state)} less than the table")
        is_complete = stage == "last" or (is_complete and stage == "false")
        if is_complete and min(state.values(), default=0) < 0:
            faults.add("missing", f"at {here}: a change of a row that was not delivered: {each['before']}")
            is_complete = False
    wanted = Counter[Row](select(f"SELECT {', '.join(_COLUMNS)} FROM {HEAP}"))
    if +state != wanted:
        faults.add("end", f"{state - wanted} more, {wanted - state} less than the table")
    return faults


def stages(url: str, source: str, database: str) -> list[tuple[str, str]]:
    """(op, source.snapshot) of each row of a snapshot of the table, and of each reset before them."""
    found = [each for each in envelopes(url, source) if _is_of(each, database)]
    return [(each["op"], each["source"]["snapshot"]) for each in found if each["source"]["snapshot"] != "false"]


def last_stage(url: str, source: str, database: str) -> tuple[str, str]:
    """The last of `stages`, if the last message of the table is one."""

    async def read() -> tuple[str, str]:
        client = await nats.connect(url)
        subject = subjects.table_subject(source, database, HEAP)
        message = await client.jetstream().get_last_msg(subjects.stream_name(source), subject)
        await client.close()
        envelope = json.loads(message.data or b"")
        return envelope["op"], envelope["source"]["snapshot"]

    return asyncio.run(read())


def _is_of(envelope: dict[str, Any], database: str) -> bool:
    return (envelope["source"]["db"], envelope["source"]["table"]) == (database, HEAP)


def _apply(rows: Counter[Row], before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
    for image, sign in ((before, -1), (after, 1)):
        if image is not None:
            rows[tuple(image[name] for name in _COLUMNS)] += sign


def ops_in_order(found: Sequence[tuple[str, str]]) -> str:
    """The ops of `stages`, repeated ones once: "tr" for one complete snapshot."""
    ops = "".join(op for op, _ in found)
    return "".join(op for at, op in enumerate(ops) if at == 0 or ops[at - 1] != op)
