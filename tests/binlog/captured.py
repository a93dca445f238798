"""Golden files: dumps of real servers, the SQL that created them, and the expected changes.

`python -m tests.binlog.captured mysql mariadb_events` recreates golden/*.bin and *.json of these from golden/*.sql;
review the diff before committing it. The filter excludes tables named `other`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binlogsync import servers
from binlogsync.binlog.reader import ReaderOptions
from binlogsync.binlog.table_declaration import DeclarationLookup, TableDeclaration
from binlogsync.change import RowChange
from binlogsync.position import Checkpoint
from binlogsync.schema import TableSchema
from binlogsync.servers.database import DatabaseServer
from tests.binlog.dump import DumpRecording, end_of_log, record

FOLDER = Path(__file__).parent / "golden"
NAMES = ("mysql", "mariadb")
EVENTS = ("mysql_events", "mariadb_events")
"""Dumps with events that depend on settings: compressed events, partial JSON, XA."""
TYPES = ("mysql_types", "mariadb_types")
"""Dumps with rare types; MariaDB's file also has the server's declarations of the tables."""


def is_captured(database: str, table: str) -> bool:
    """True for all tables of the database `golden` except `other`."""
    return database == "golden" and table != "other"


@dataclass(frozen=True, slots=True)
class CapturedDump:
    """A captured dump and the summaries of its changes."""

    recording: DumpRecording
    expected: list[list[Any]]


def load(name: str) -> CapturedDump:
    """Load one of NAMES, EVENTS or TYPES."""
    record = json.loads((FOLDER / f"{name}.json").read_text())
    options = ReaderOptions(
        record["server_uuid"],
        record["server_id"],
        mariadb=name.startswith("mariadb"),
        captures=is_captured,
        declared=_declared(record.get("declared", {})),
    )
    start = Checkpoint.from_text(json.dumps(record["start"]))
    return CapturedDump(DumpRecording((FOLDER / f"{name}.bin").read_bytes(), start, options), record["changes"])


def _declared(captured: dict[str, Any]) -> DeclarationLookup:
    """A lookup of the captured declarations."""

    def answer(database: str, table: str) -> TableDeclaration | None:
        found = captured.get(table)
        if found is None:
            return None
        schema = TableSchema.from_json(json.dumps(found["schema"]))
        return TableDeclaration(schema, frozenset(found["old_temporal"]))

    return answer


def _declarations(options: ReaderOptions, tables: set[str]) -> dict[str, Any]:
    found = {table: options.declared("golden", table) for table in sorted(tables)}
    return {
        table: {"schema": json.loads(one.schema.to_json()), "old_temporal": sorted(one.old_temporal)}
        for table, one in found.items()
        if one is not None
    }


def summary(change: RowChange) -> list[Any]:
    """A change as a JSON value: column values are their Python repr, so that types are compared too."""
    images = [None if i is None else {k: repr(v) for k, v in i.items()} for i in (change.before, change.after)]
    source = change.source
    return [change.op, source.table, *images, source.gtid, source.file, source.pos, source.row, source.order]


def _capture(name: str, server: DatabaseServer) -> None:
    start = end_of_log(server)
    connection = server.connect()
    with connection.cursor() as cursor:
        for statement in (FOLDER / f"{name}.sql").read_text().splitlines():
            if not statement.startswith("--"):
                cursor.execute(statement)
    recording = record(server, start, is_captured)
    changes = [summary(change) for change in recording.changes()]
    (FOLDER / f"{name}.bin").write_bytes(recording.raw)
    options = recording.options
    about = {"server_uuid": options.server_uuid, "server_id": options.server_id, "start": json.loads(start.to_text())}
    if name in TYPES and options.mariadb:
        about["declared"] = _declarations(options, {change[1] for change in changes})
    lines = ",\n".join(json.dumps(change, ensure_ascii=False) for change in changes)
    text = json.dumps(about, indent=1).removesuffix("\n}") + f',\n "changes": [\n{lines}\n]}}\n'
    (FOLDER / f"{name}.json").write_text(text)


def main() -> None:
    """Capture the named dumps, or all, each from a new server."""
    for name in sys.argv[1:] or (*NAMES, *EVENTS, *TYPES):
        with servers.mariadb() if name.startswith("mariadb") else servers.mysql() as server:
            _capture(name, server)


if __name__ == "__main__":
    main()
