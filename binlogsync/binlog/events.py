"""Event types, and parsers of the events that Python handles: format description, rotate, tagged GTIDs."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from binlogsync.binlog.bytes import ByteReader
from binlogsync.server_version import ServerFlavor, parse_server_version

# Log_event_type in libs/mysql/binlog/event/binlog_event.h; codes from 160 are those of MariaDB's sql/log_event.h.
QUERY, ROTATE, FORMAT_DESCRIPTION, INCIDENT, GTID, XA_PREPARE, PARTIAL_UPDATE = 2, 4, 15, 26, 33, 38, 39
TRANSACTION_PAYLOAD, GTID_TAGGED, MARIADB_GTID, QUERY_COMPRESSED = 40, 42, 162, 165
COMPRESSED_ROWS = range(166, 172)  # WRITE_ROWS_COMPRESSED_V1 to DELETE_ROWS_COMPRESSED
START_ENCRYPTION = 164
PREVIOUS_GTIDS, MARIADB_GTID_LIST = 35, 163
XID, TABLE_MAP, ANONYMOUS_GTID = 16, 19, 34
WRITE_ROWS_V1, DELETE_ROWS_V1, WRITE_ROWS, UPDATE_ROWS, DELETE_ROWS = 23, 25, 30, 31, 32
WRITE_ROWS_COMPRESSED_V1, WRITE_ROWS_COMPRESSED, DELETE_ROWS_COMPRESSED = 166, 169, 171
STOP, INTVAR, RAND, USER_VAR, IGNORABLE, ROWS_QUERY, TRANSACTION_CONTEXT, VIEW_CHANGE = 3, 5, 13, 14, 28, 29, 36, 37
MARIADB_ANNOTATE_ROWS, MARIADB_BINLOG_CHECKPOINT = 160, 161
HEARTBEAT, HEARTBEAT_V2 = 27, 41
HEARTBEATS = (HEARTBEAT, HEARTBEAT_V2)
# LOAD DATA in statement format: the file, in blocks, and then the statement that loads it.
APPEND_BLOCK, DELETE_FILE, BEGIN_LOAD_QUERY, EXECUTE_LOAD_QUERY = 9, 11, 17, 18

NAMES = {
    1: "START_V3", 2: "QUERY", 4: "ROTATE", 6: "LOAD", 8: "CREATE_FILE", 9: "APPEND_BLOCK", 10: "EXEC_LOAD",
    11: "DELETE_FILE", 12: "NEW_LOAD", 15: "FORMAT_DESCRIPTION", 17: "BEGIN_LOAD_QUERY", 18: "EXECUTE_LOAD_QUERY",
    19: "TABLE_MAP", 20: "PRE_GA_WRITE_ROWS", 21: "PRE_GA_UPDATE_ROWS", 22: "PRE_GA_DELETE_ROWS", 23: "WRITE_ROWS_V1",
    24: "UPDATE_ROWS_V1", 25: "DELETE_ROWS_V1", 26: "INCIDENT", 30: "WRITE_ROWS", 31: "UPDATE_ROWS", 32: "DELETE_ROWS",
    33: "GTID", 38: "XA_PREPARE", 39: "PARTIAL_UPDATE_ROWS", 40: "TRANSACTION_PAYLOAD", 42: "GTID_TAGGED",
    162: "MARIADB_GTID", 164: "START_ENCRYPTION", 165: "QUERY_COMPRESSED", 166: "WRITE_ROWS_COMPRESSED_V1",
    167: "UPDATE_ROWS_COMPRESSED_V1", 168: "DELETE_ROWS_COMPRESSED_V1", 169: "WRITE_ROWS_COMPRESSED",
    170: "UPDATE_ROWS_COMPRESSED", 171: "DELETE_ROWS_COMPRESSED",
}  # fmt: skip

_FILE_NAME = re.compile(r"[^\x00-\x1f/\\]*\.[0-9]{6,}")

# Error messages for events that carry data and cannot be decoded.
REMEDIES = {
    INCIDENT: "the server reports that changes are missing from its binlog: take a new snapshot of the tables",
    START_ENCRYPTION: "the binlog is encrypted, and only its server can decrypt it",
}


def has_checksum(event: bytes) -> bool:
    """True when the last four bytes of the event are the CRC-32 of the others."""
    return zlib.crc32(event[:-4]) == int.from_bytes(event[-4:], "little")


def name_of(kind: int) -> str:
    """The name of the event type, for messages."""
    return NAMES.get(kind, f"type {kind}")


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """The properties of a binlog's events that its first event, the format description, contains."""

    binlog_version: int
    server_version: str
    checksum: bool


_HEADER_LENGTH = 19  # LOG_EVENT_HEADER_LEN in binlog_event.h
# Size of the post-header by event type: TABLE_MAP, and row events of version 1 and 2.
_POST_HEADERS = (
    {TABLE_MAP: 8}
    | dict.fromkeys(range(WRITE_ROWS_V1, DELETE_ROWS_V1 + 1), 8)
    | dict.fromkeys(range(WRITE_ROWS, DELETE_ROWS + 1), 10)
)


def parse_format_description(body: bytes) -> FormatDescription:
    """Parse the body; its last five bytes are the checksum algorithm and the checksum. Raises ValueError."""
    reader = ByteReader(body)
    version = reader.integer(2)
    server = reader.string(50).rstrip(b"\0").decode("ascii", "replace")
    if version != 4 or _is_too_old(server):
        raise ValueError(
            f"the binlog was written by server {server or '(version unknown)'} in a format (binlog version {version}) "
            "that is not supported: only those of MySQL 5.6.1, MariaDB 10.0 and newer are. If the server was upgraded "
            "since, run FLUSH BINARY LOGS, and start at a file that it has written after the upgrade"
        )
    lengths = body[57:-5]
    if body[56] != _HEADER_LENGTH or any(
        lengths[kind - 1 : kind] not in (b"", b"\0", bytes([n])) for kind, n in _POST_HEADERS.items()
    ):
        raise ValueError(f"the events of server {server} have unknown post-headers")
    algorithm = body[-5]
    if algorithm not in (0, 1):
        raise ValueError(f"checksum algorithm {algorithm} of server {server} is unknown")
    return FormatDescription(version, server, algorithm == 1)


# The first version with checksums in format descriptions, and the first with GTIDs.
_OLDEST = {ServerFlavor.MYSQL: (5, 6, 1), ServerFlavor.MARIADB: (10, 0, 0)}


def _is_too_old(server: str) -> bool:
    """True for versions whose events have another format."""
    flavor, number = parse_server_version(server)
    return number != () and number < _OLDEST[flavor]


def parse_rotate(body: bytes) -> tuple[str, int]:
    """Name of the next file and the offset of its first event. Raises ValueError."""
    reader = ByteReader(body)
    pos = reader.integer(8)
    file = reader.rest().decode()
    if not 4 <= pos < 2**62:
        raise ValueError(f"a binlog file does not begin at {pos}")
    if not _FILE_NAME.fullmatch(file):
        raise ValueError(f"{file!r} is not the name of a binlog file")
    return file, pos


@dataclass(frozen=True, slots=True)
class TaggedGtid:
    """A GTID with a tag: "uuid:tag", its sequence number, and commit times in microseconds since 1970 UTC.

    Attributes:
        ts_us: on the server whose log this is.
        first_committed_us: on the server that executed the transaction first.
    """

    key: str
    number: int
    ts_us: int
    first_committed_us: int


def parse_tagged_gtid(body: bytes) -> TaggedGtid:
    """Read the body of a GTID_TAGGED event. Raises ValueError.

    The format is that of libs/mysql/serialization: version, size, and number of the last field that may not be ignored;
    then the number and the value of each field. Source: Gtid_event::define_fields in control_events.h.
    """
    reader = ByteReader(body)
    version = reader.varlen()
    if version != 1:
        raise ValueError(f"serialization version {version} is not known")
    reader.varlen()
    reader.varlen()
    fields: dict[int, object] = {}
    while reader.left and 6 not in fields:
        number = reader.varlen()
        if number not in _TAGGED_FIELDS:
            raise ValueError(f"field {number} stands where a commit time is expected")
        fields[number] = _TAGGED_FIELDS[number](reader)
    # Where both are equal, the field of the original time is left out.
    first_us = reader.varlen() if reader.left and reader.varlen() == _ORIGINAL_COMMIT_TIME else fields.get(6)
    uuid, gno, tag, ts_us = (fields.get(number) for number in (1, 2, 3, 6))
    if not (isinstance(uuid, bytes) and isinstance(gno, int) and isinstance(tag, bytes) and isinstance(ts_us, int)):
        raise ValueError("fields of the GTID are missing")
    first_us = first_us if isinstance(first_us, int) else ts_us
    return TaggedGtid(f"{UUID(bytes=uuid)}:{tag.decode('ascii')}", gno, ts_us, first_us)


_ORIGINAL_COMMIT_TIME = 7


_TAGGED_FIELDS: dict[int, Callable[[ByteReader], object]] = {
    0: ByteReader.varlen,  # flags
    1: lambda reader: bytes(reader.varlen() & 0xFF for _ in range(16)),
    2: ByteReader.signed_varlen,
    3: lambda reader: reader.string(reader.varlen()),
    4: ByteReader.signed_varlen,  # last_committed
    5: ByteReader.signed_varlen,  # sequence_number
    6: ByteReader.varlen,  # immediate_commit_timestamp
}


def gtid_key(kind: int, header: bytes, body: bytes) -> tuple[bytes, str]:
    """(16 bytes that the scan compares, key as in the text of a GtidSet) of a GTID or MariaDB GTID event."""
    if kind == MARIADB_GTID:
        domain, server = body[8:12], header[5:9]
        text = f"{int.from_bytes(domain, 'little')}-{int.from_bytes(server, 'little')}"
        return (domain + server).ljust(16, b"\0"), text
    return body[1:17], str(UUID(bytes=body[1:17]))
