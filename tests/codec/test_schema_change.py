"""Schema changes among the changes of their tables: on the wire in every format, in order, and without a row."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from binlogsync.change import Change, SchemaChange
from binlogsync.change_batch import ChangeBatch, build_schema_batch
from binlogsync.codec.envelope import SCHEMA_CHANGE, decode_schema_change, encode_schema_change
from binlogsync.codec.subjects import stream_name, table_subject
from binlogsync.consume.engine import ConsumeOptions, consume
from binlogsync.consume.handler import Handler
from binlogsync.errors import WireError
from binlogsync.flush import Flush
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import BinlogPosition
from binlogsync.servers import NATSServer
from binlogsync.sinks.audit import AuditSink
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from tests.consume.test_consume import SampleRow
from tests.duck import query
from tests.nats.test_stream import FORMATS
from tests.nats_commands import ask
from tests.samples import SERVER_ID, SERVER_UUID, SampleOptions, SampleSource

SAMPLES = ("shop", "samples")
SQL = "ALTER TABLE samples ADD COLUMN `größe\n` INT"


def statement(seq: int, pos: int, sql: str = SQL) -> ChangeBatch:
    """The schema change of shop.samples as a batch."""
    gtid = f"{SERVER_UUID}:900"
    ddl = SchemaChange("alter", (SAMPLES,), sql, seq, BinlogPosition("binlog.000001", pos), gtid, 5, "shop", 4)
    place = {"file": "binlog.000001", "pos": pos, "row": 0, "txn_pos": pos - 1, "order": 0}
    return build_schema_batch(ddl, SAMPLES, {**place, "ts_us": 5, "gtid": gtid, "seq": seq}, (SERVER_UUID, SERVER_ID))


def flush_with_statement(source: str) -> Flush:
    """Changes of shop.samples, then a statement, then more of them."""
    flush = SampleSource(SampleOptions(source=source)).flush(6)
    rows = next(batch for batch in flush.batches if batch.schema.table == "samples")
    seq, pos = (rows.data.column(name)[3].as_py() for name in ("seq", "pos"))
    return replace(flush, batches=(rows.slice(0, 3), statement(seq, pos), rows.slice(4, len(rows))))


@pytest.mark.parametrize("options", FORMATS, ids=["json", "lines", "arrow"])
def test_it_arrives_in_its_place(nats_server: NATSServer, tmp_path: Path, options: dict[str, Any]) -> None:
    source = "ddl-" + "-".join(options)
    flush = flush_with_statement(source)
    sink = JetStreamSink(JetStreamOptions(url=nats_server.url, **options))
    sink.open(source)
    sink.write(flush)
    sink.close()
    with StreamReader(NatsOptions(url=nats_server.url), source) as reader:
        reader.ensure_durable("d", *SAMPLES, 1)
        found = [item for item in reader.fetch("d", 1000, 1.0) if len(item)]
        at = next(number for number, item in enumerate(found) if item.batch.ddl is not None)
        assert sum(len(item) for item in found[:at]) == 3
        assert sum(len(item) for item in found) == sum(len(batch) for batch in flush.batches)
        ddl, wanted = found[at].batch.ddl, flush.batches[1].ddl
        assert ddl is not None
        assert wanted is not None
        assert ddl == replace(wanted, seq=0)
        assert list(found[at].batch.changes()) == []
        again = reader.change_at(found[at].last_sequence)
        assert again is not None
        assert again.ddl == ddl

        seen: list[Change[SampleRow]] = []
        handler = Handler(SampleRow, seen.append, tmp_path / "progress.duckdb")
        done = consume(reader, SAMPLES, handler, ConsumeOptions(idle_s=0.1), threading.Event())
        assert done.changes == len(seen) == flush.changes == sum(len(b) for b in flush.batches) - 1
    raw = ask(nats_server.url, lambda js: js.get_msg(stream_name(source), found[at].last_sequence))
    assert raw.subject == table_subject(source, *SAMPLES)
    assert not raw.data
    assert raw.headers is not None
    assert decode_schema_change(raw.headers[SCHEMA_CHANGE]).ddl == ddl


def test_the_audit_log_keeps_it_apart_from_the_changes(tmp_path: Path) -> None:
    flush = flush_with_statement("demo")
    sink = AuditSink(tmp_path / "audit.duckdb")
    sink.open("demo")
    sink.write(flush)
    assert query(tmp_path / "audit.duckdb", "SELECT count(*) FROM changes WHERE op IN ('c', 'u', 'd')") == [
        (flush.changes,)
    ]


def test_a_long_statement_travels_without_its_text() -> None:
    batch = decode_schema_change(encode_schema_change(statement(1, 500, "ALTER TABLE t " + "x" * 70_000)))
    assert batch.ddl is not None
    assert batch.ddl.sql == ""
    assert batch.ddl.tables == (SAMPLES,)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "alter"}'])
def test_what_is_no_schema_change_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="not a schema change"):
        decode_schema_change(text)
