"""A schema change as a message on the table's subject: a header with a JSON document, and an empty body.

    {"kind", "database", "sql", "tables": [[database, table], ...], "table": [database, table], "gtid", "ts_us",
     "sql_mode", "server_uuid", "server_id", "file", "pos", "row", "txn_pos", "order"}

Its position (`file` to `order`) is numbered like those of changes, so it is delivered once and in order. A reader of
Debezium's JSON treats an empty body as a tombstone and ignores it. `sql` is "" when the statement is longer than a
header may be, and `tables` contains only its own table when a statement drops more than a hundred.

"recodes_literals": true is present if strings outside ASCII in `sql` may mean another text, because the session's
character_set_connection is not the character set of its client.

The kinds "gap" and "foreign_key" are not statements: changes of the table may be missing before this position (or up
to "until", [file, pos]), and `sql` is a sentence that describes them.
"""

from __future__ import annotations

import json

from binlogsync.change import SchemaChange
from binlogsync.change_batch import ChangeBatch, build_schema_batch
from binlogsync.errors import WireError, excerpt
from binlogsync.position import BinlogPosition

_LONGEST_SQL = 64 << 10
_MOST_TABLES = 100
_KINDS = ("create", "alter", "rename", "drop", "truncate", "other", "gap", "foreign_key")
_POSITION = ("gtid", "file", "pos", "row", "txn_pos", "order")


def encode_schema_change(batch: ChangeBatch) -> str:
    """The text of the header: one line of ASCII. `batch` must have `ddl`."""
    ddl, data = batch.ddl, batch.data
    assert ddl is not None
    own = (batch.schema.database, batch.schema.table)
    document = {
        "kind": ddl.kind,
        "database": ddl.database,
        "sql": ddl.sql if len(ddl.sql) <= _LONGEST_SQL else "",
        "tables": ddl.tables if ddl.kind == "rename" or len(ddl.tables) <= _MOST_TABLES else (own,),
        "table": own,
        "ts_us": ddl.ts_us,
        "sql_mode": ddl.sql_mode,
        "server_uuid": batch.server_uuid,
        "server_id": batch.server_id,
        **{name: data.column(name)[0].as_py() for name in _POSITION},
    }
    if ddl.recodes_literals:
        document["recodes_literals"] = True
    if ddl.until is not None:
        document["until"] = [ddl.until.file, ddl.until.pos]
    return json.dumps(document, separators=(",", ":"))


def decode_schema_change(text: str) -> ChangeBatch:
    """The batch that encode_schema_change wrote, `seq` and so `ddl.seq` being 0; raises WireError."""
    try:
        document = json.loads(text)
        if document["kind"] not in _KINDS or not all(isinstance(document[name], str) for name in ("sql", "database")):
            raise ValueError("kind, sql or database")
        tables = tuple((str(database), str(table)) for database, table in document["tables"])
        position = {name: document[name] for name in _POSITION}
        ddl = SchemaChange(
            document["kind"],
            tables,
            document["sql"],
            0,
            BinlogPosition(document["file"], document["pos"]),
            document["gtid"],
            document["ts_us"],
            document["database"],
            document.get("sql_mode"),
            _until(document.get("until")),
            document.get("recodes_literals") is True,
        )
        server = (document["server_uuid"], document["server_id"])
        database, table = document["table"]
        return build_schema_batch(ddl, (database, table), {**position, "ts_us": document["ts_us"], "seq": 0}, server)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise WireError(f"not a schema change: {excerpt(text)} ({excerpt(str(error))})") from error


def _until(value: object) -> BinlogPosition | None:
    """The position in a document's [file, pos]; raises ValueError."""
    if value is None:
        return None
    match value:
        case [str(file), int(pos)]:
            return BinlogPosition(file, pos)
    raise ValueError("until")
