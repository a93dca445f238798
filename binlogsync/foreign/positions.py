"""Positions as other tools keep them, read from their JSON. Pure.

    Maxwell    a row of its table `positions`: binlog_file, binlog_position, gtid_set, server_id, last_heartbeat_read
               (or heartbeat); or a line of its output with `position` ("file:pos") and `gtid`
    Debezium   an offset of Kafka Connect: file, pos, gtids, event, row, snapshot, ts_sec, server_id; alone, as
               {"key": ..., "value": ...}, as a line "key<tab>value", or as the REST interface gives offsets
    a Go tool  a key of Redis: {"Name": "mysql-bin.000003", "Pos": 1234}, or mysql-bin.000003:1234

Several lines, or a list, hold the positions of one reader, the newest last; of two readers they are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from binlogsync.errors import ConfigError, PositionError
from binlogsync.position import BinlogPosition, GtidSet

Tool = Literal["maxwell", "debezium", "go"]
_FILES = ("binlog_file", "file", "name", "filename", "file_name", "logname", "log_file", "binlogfile")
_PLACES = ("binlog_position", "pos", "position", "logpos", "log_pos", "binlogpos")
_FORMS = 'write {"Name": "mysql-bin.000003", "Pos": 1234}, a row of Maxwell\'s positions, or Debezium\'s offset'


@dataclass(frozen=True, slots=True)
class ForeignPosition:
    """Where another tool is.

    Attributes:
        tool: which.
        position: file and offset; None when it knows GTIDs only.
        gtids: transactions it has done, None when it knows none.
        server_id: of the server that it read, None when it does not say.
        at_us: when that was, microseconds since 1970 UTC; None when it does not say.
        done_inside: events of the next transaction that it has done already.
        reader: name of the connector or client, "" when it has none.
    """

    tool: Tool
    position: BinlogPosition | None
    gtids: GtidSet | None = None
    server_id: int | None = None
    at_us: int | None = None
    done_inside: int = 0
    reader: str = ""


def read_position(text: str) -> ForeignPosition:
    """The newest position in the text. Raises ConfigError for what is none, or is of several readers."""
    found = [_position(reader, record) for reader, record in _records(text)]
    if not found:
        raise ConfigError(f"there is no position in it; {_FORMS}")
    readers = sorted({each.reader for each in found})
    if len(readers) > 1:
        raise ConfigError(f"these are positions of several readers ({', '.join(readers)}); give those of one")
    return found[-1]


def _records(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name of the reader, its record with names in lower case) of each position in the text."""
    try:
        documents = [json.loads(text)]
    except ValueError:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        documents = [document for line in lines for document in _line(line)]
    for document in documents:
        yield from _unwrapped("", document)


def _line(line: str) -> Iterator[Any]:
    key, tab, value = line.partition("\t")
    try:
        if tab:
            yield {"key": _loaded(key), "value": json.loads(value)}
        else:
            yield json.loads(line)
    except ValueError:
        try:
            position = BinlogPosition.parse(line.strip('"'))
        except PositionError as error:
            raise ConfigError(f"{line[:80]!r} is no position; {_FORMS}") from error
        yield {"name": position.file, "pos": position.pos}


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unwrapped(reader: str, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(document, str):
        document = next(_line(document))
    if isinstance(document, list):
        for each in document:
            yield from _unwrapped(reader, each)
        return
    if not isinstance(document, Mapping):
        raise ConfigError(f"{document!r} is no position; {_FORMS}")
    record = {str(name).lower(): value for name, value in document.items()}
    if "offsets" in record:
        yield from _unwrapped(reader, record["offsets"])
    elif isinstance(inner := record.get("value", record.get("offset")), Mapping):
        named = record.get("key", record.get("partition"))
        yield from _unwrapped(json.dumps(named) if named is not None else reader, inner)
    elif record.get("value", record) is not None:  # a deleted offset has none
        yield reader, record


def _position(reader: str, record: Mapping[str, Any]) -> ForeignPosition:
    try:
        if "binlog_file" in record or "gtid_set" in record or _is_output_of_maxwell(record):
            return _of_maxwell(record)
        if {"gtids", "ts_sec", "snapshot", "event", "row", "transaction_id"} & record.keys():
            return _of_debezium(reader, record)
        return ForeignPosition("go", _place(record))
    except (PositionError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{json.dumps(dict(record))[:200]} is no position ({error}); {_FORMS}") from error


def _is_output_of_maxwell(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("position"), str) and "file" not in record and "name" not in record


def _of_maxwell(record: Mapping[str, Any]) -> ForeignPosition:
    text = record.get("gtid_set") or record.get("gtid")
    beat = record.get("last_heartbeat_read") or record.get("heartbeat_at") or record.get("heartbeat") or 0
    position = BinlogPosition.parse(record["position"]) if _is_output_of_maxwell(record) else _place(record)
    return ForeignPosition(
        "maxwell",
        position,
        GtidSet.parse(str(text)) if text else None,
        _number(record.get("server_id")),
        int(beat) * 1000 or None,
        reader=str(record.get("client_id", "")),
    )


def _of_debezium(reader: str, record: Mapping[str, Any]) -> ForeignPosition:
    if str(record.get("snapshot", "false")).lower() not in ("false", "last", ""):
        raise ConfigError(
            "Debezium's offset is of a snapshot that has not ended: what lies before it is not all there. Let the "
            "snapshot end, then import again"
        )
    text = record.get("gtids")
    return ForeignPosition(
        "debezium",
        _place(record),
        GtidSet.parse(str(text)) if text else None,
        _number(record.get("server_id")),
        int(record.get("ts_sec") or 0) * 1_000_000 or None,
        int(record.get("event") or 0) + int(record.get("row") or 0),
        reader,
    )


def _place(record: Mapping[str, Any]) -> BinlogPosition:
    file = next((record[name] for name in _FILES if record.get(name)), None)
    pos = next((record[name] for name in _PLACES if record.get(name) is not None), None)
    if not isinstance(file, str) or pos is None:
        raise ConfigError(f"it has no file and position (it has: {', '.join(sorted(record)) or 'nothing'}); {_FORMS}")
    return BinlogPosition.parse(f"{file}:{int(pos)}")


def _number(value: Any) -> int | None:
    return int(value) if value not in (None, "", 0, "0") else None
