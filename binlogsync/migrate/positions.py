"""Reads positions of other tools from their JSON. Pure.

    Maxwell    a row of its table `positions`: binlog_file, binlog_position, gtid_set, server_id, last_heartbeat_read
               (or heartbeat); or a line of its output with `position` ("file:pos") and `gtid`
    Debezium   an offset of Kafka Connect: file, pos, gtids, event, row, snapshot, ts_sec, server_id; alone, as
               {"key": ..., "value": ...}, as a line "key<tab>value", or as the REST interface returns offsets
    a Go tool  a key of Redis: {"Name": "mysql-bin.000003", "Pos": 1234}, or mysql-bin.000003:1234

Several lines, or a list, are positions of one reader, the newest last; positions of two readers are an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from binlogsync.errors import ConfigError, PositionError
from binlogsync.position import BinlogPosition, GtidSet

Tool = Literal["maxwell", "debezium", "go"]
_FILE_KEYS = ("binlog_file", "file", "name", "filename", "file_name", "logname", "log_file", "binlogfile")
_POSITION_KEYS = ("binlog_position", "pos", "position", "logpos", "log_pos", "binlogpos")
_EXPECTED = 'write {"Name": "mysql-bin.000003", "Pos": 1234}, a row of Maxwell\'s positions, or Debezium\'s offset'


@dataclass(frozen=True, slots=True)
class ForeignPosition:
    """The position of another tool.

    Attributes:
        tool: the tool.
        position: file and offset; None when it has GTIDs only.
        gtids: transactions that it has processed; None without GTIDs.
        server_id: the server that it read; None if unknown.
        at_us: time of the position, microseconds since 1970 UTC; None if unknown.
        done_inside: number of events of the next transaction that it has already processed.
        reader: name of the connector or client; "" without one.
    """

    tool: Tool
    position: BinlogPosition | None
    gtids: GtidSet | None = None
    server_id: int | None = None
    at_us: int | None = None
    done_inside: int = 0
    reader: str = ""


def read_position(text: str) -> ForeignPosition:
    """The newest position in the text. Raises ConfigError if there is none, or there are several readers."""
    found = [_parse_position(reader, record) for reader, record in _records(text)]
    if not found:
        raise ConfigError(f"no position found; {_EXPECTED}")
    readers = sorted({each.reader for each in found})
    if len(readers) > 1:
        raise ConfigError(f"these are positions of several readers ({', '.join(readers)}); import those of one")
    return found[-1]


def _records(text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name of the reader, its record with names in lower case) of each position in the text."""
    try:
        documents = [json.loads(text)]
    except ValueError:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        documents = [document for line in lines for document in _parse_line(line)]
    for document in documents:
        yield from _unwrap("", document)


def _parse_line(line: str) -> Iterator[Any]:
    key, tab, value = line.partition("\t")
    try:
        if tab:
            yield {"key": _load_or_text(key), "value": json.loads(value)}
        else:
            yield json.loads(line)
    except ValueError:
        try:
            position = BinlogPosition.parse(line.strip('"'))
        except PositionError as error:
            raise ConfigError(f"{line[:80]!r} is not a position; {_EXPECTED}") from error
        yield {"name": position.file, "pos": position.pos}


def _load_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _unwrap(reader: str, document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(document, str):
        document = next(_parse_line(document))
    if isinstance(document, list):
        for each in document:
            yield from _unwrap(reader, each)
        return
    if not isinstance(document, Mapping):
        raise ConfigError(f"{document!r} is not a position; {_EXPECTED}")
    record = {str(name).lower(): value for name, value in document.items()}
    if "offsets" in record:
        yield from _unwrap(reader, record["offsets"])
    elif isinstance(inner := record.get("value", record.get("offset")), Mapping):
        named = record.get("key", record.get("partition"))
        yield from _unwrap(json.dumps(named) if named is not None else reader, inner)
    elif record.get("value", record) is not None:  # a deleted offset has no value
        yield reader, record


def _parse_position(reader: str, record: Mapping[str, Any]) -> ForeignPosition:
    try:
        if "binlog_file" in record or "gtid_set" in record or _is_maxwell_output(record):
            return _parse_maxwell(record)
        if {"gtids", "ts_sec", "snapshot", "event", "row", "transaction_id"} & record.keys():
            return _parse_debezium(reader, record)
        return ForeignPosition("go", _parse_file_position(record))
    except (PositionError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{json.dumps(dict(record))[:200]} is not a position ({error}); {_EXPECTED}") from error


def _is_maxwell_output(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("position"), str) and "file" not in record and "name" not in record


def _parse_maxwell(record: Mapping[str, Any]) -> ForeignPosition:
    text = record.get("gtid_set") or record.get("gtid")
    beat = record.get("last_heartbeat_read") or record.get("heartbeat_at") or record.get("heartbeat") or 0
    position = BinlogPosition.parse(record["position"]) if _is_maxwell_output(record) else _parse_file_position(record)
    return ForeignPosition(
        "maxwell",
        position,
        GtidSet.parse(str(text)) if text else None,
        _parse_number(record.get("server_id")),
        int(beat) * 1000 or None,
        reader=str(record.get("client_id", "")),
    )


def _parse_debezium(reader: str, record: Mapping[str, Any]) -> ForeignPosition:
    if str(record.get("snapshot", "false")).lower() not in ("false", "last", ""):
        raise ConfigError(
            "Debezium's offset is from a snapshot that has not finished: earlier rows may be missing. Let the "
            "snapshot finish, then import again"
        )
    text = record.get("gtids")
    return ForeignPosition(
        "debezium",
        _parse_file_position(record),
        GtidSet.parse(str(text)) if text else None,
        _parse_number(record.get("server_id")),
        int(record.get("ts_sec") or 0) * 1_000_000 or None,
        int(record.get("event") or 0) + int(record.get("row") or 0),
        reader,
    )


def _parse_file_position(record: Mapping[str, Any]) -> BinlogPosition:
    file = next((record[name] for name in _FILE_KEYS if record.get(name)), None)
    pos = next((record[name] for name in _POSITION_KEYS if record.get(name) is not None), None)
    if not isinstance(file, str) or pos is None:
        raise ConfigError(
            f"file and position are missing (it contains: {', '.join(sorted(record)) or 'nothing'}); {_EXPECTED}"
        )
    return BinlogPosition.parse(f"{file}:{int(pos)}")


def _parse_number(value: Any) -> int | None:
    return int(value) if value not in (None, "", 0, "0") else None
