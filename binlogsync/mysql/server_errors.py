"""Translates an error packet of the server into an exception with the next step. Pure.

The dump reports nearly everything under one number, 1236, so only the text can decide: a lost position is a
PositionError (a retry cannot help), the rest a SourceError.
"""

from __future__ import annotations

import re
from typing import NoReturn, TypeVar

from binlogsync.binlog.event_index import ERROR_PACKET
from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql.error_codes import (
    ER_ACCESS_DENIED_ERROR,
    ER_CLIENT_INTERACTION_TIMEOUT,
    ER_QUERY_INTERRUPTED,
    ER_SERVER_SHUTDOWN,
    ER_SESSION_WAS_KILLED,
    ER_SHUTDOWN_COMPLETE,
    ER_SOURCE_FATAL_ERROR_READING_BINLOG,
    ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS,
    ER_SPECIFIC_ACCESS_DENIED_ERROR,
    ER_TABLEACCESS_DENIED_ERROR,
    ER_UNKNOWN_TARGET_BINLOG,
    MARIADB_ER_CONNECTION_KILLED,
)

Found = TypeVar("Found")


class DumpEndedError(SourceError):
    """The server ended the dump for a reason that is not known to be the position's; a retry may help.

    Attributes:
        code: the server's error number.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class AnonymousTransactionError(PositionError):
    """The next transaction has no GTID, and the server, which has gtid_mode=ON, does not send it."""


FATAL_READING_BINLOG = ER_SOURCE_FATAL_ERROR_READING_BINLOG
_PURGED = (
    "the binlogs that hold the next changes are gone",
    "choose: start at 'oldest' and accept the gap, take a new snapshot, or continue on another server that still has "
    "them",
)
_BEYOND = (
    "the server's binlog is not the one this position was taken from (restored, reset, or data lost in a crash)",
    "choose: start at 'now' or 'oldest' and accept the gap, take a new snapshot, or use the server it came from",
)

# Words of MySQL and MariaDB, what they mean, and what to do. The first match counts.
_POSITION: tuple[tuple[str, tuple[str, str]], ...] = (
    (r"purged|could not find first log file|could not find gtid state|too old", _PURGED),
    (r"impossible position|position > file size|more GTIDs|is not in the (master|source)'s binlog", _BEYOND),
    (r"errant|out-of-order|diverged", _BEYOND),
)
_OTHER: tuple[tuple[str, str], ...] = (
    (
        r"same server_(uu)?id|same server.uuid",
        "another reader with this server_id has connected, and the server serves one of the two: this tail was started "
        "twice in one folder, or a replica has the same id (SHOW REPLICAS lists them); stop the other one, or set "
        "BINLOGSYNC_MYSQL_SERVER_ID to a number that no other reader has",
    ),
    (r"binary log(ging)? is not (open|enabled)|binlog.*not enabled", "turn log_bin on; `binlogsync doctor` shows how"),
    (
        r"AUTO_POSITION|GTID_MODE",
        "the server's gtid_mode does not allow this dump; see SELECT @@GLOBAL.gtid_mode",
    ),
    (
        r"max_allowed_packet",
        "an event is larger than the server's max_allowed_packet, or the position is no event boundary; raise "
        "replica_max_allowed_packet and max_allowed_packet to 1G",
    ),
    (
        r"checksum|bogus|corrupt|read error|I/O error|truncated|failed to read",
        "the binlog file looks damaged; check it on the server with mysqlbinlog --verify-binlog-checksum",
    ),
    (r"server_id was not set|server.id.*0", "set server_id on the server: SET PERSIST server_id = 1"),
)
_ANONYMOUS = (
    "it was logged before gtid_mode was ON, and a server with gtid_mode=ON does not send it. To read it, with nothing "
    "lost: SET GLOBAL gtid_mode = ON_PERMISSIVE on the server, run the tail until it has caught up, then SET GLOBAL "
    "gtid_mode = ON. Else choose: start at 'oldest', which is then the first position that the server sends, or 'now'"
)
_BY_CODE: dict[int, str] = {
    ER_SERVER_SHUTDOWN: "the server is shutting down; reconnect when it is back",
    ER_SHUTDOWN_COMPLETE: "the server is shutting down; reconnect when it is back",
    MARIADB_ER_CONNECTION_KILLED: "the connection was killed; reconnect",
    ER_QUERY_INTERRUPTED: "the dump was interrupted; reconnect",
    ER_SESSION_WAS_KILLED: "the connection was killed; reconnect",
    ER_CLIENT_INTERACTION_TIMEOUT: "the connection was idle for too long; reconnect",
    ER_ACCESS_DENIED_ERROR: "check user and password",
    ER_TABLEACCESS_DENIED_ERROR: "GRANT REPLICATION SLAVE ON *.* to the account",
    ER_SPECIFIC_ACCESS_DENIED_ERROR: "GRANT REPLICATION SLAVE ON *.* to the account",
}
_POSITION_CODES = {ER_UNKNOWN_TARGET_BINLOG: _PURGED, ER_SOURCE_HAS_PURGED_REQUIRED_GTIDS: _PURGED}


def parse_error_packet(payload: bytes | memoryview) -> tuple[int, str]:
    """(code, message) of a payload that starts with 0xff; raises SourceError when it does not."""
    data = bytes(payload)
    if len(data) < 3 or data[0] != ERROR_PACKET:
        raise SourceError(
            f"not an error packet of the server: {data[:16].hex()}; the connection is out of step, reconnect"
        )
    code = int.from_bytes(data[1:3], "little")
    text = data[9:] if data[3:4] == b"#" else data[3:]
    return code, text.decode("utf-8", "replace")


def raise_server_error(payload: bytes | memoryview) -> NoReturn:
    """Raises PositionError or SourceError for an error packet's payload (0xff, code, state, message)."""
    code, text = parse_error_packet(payload)
    message = f"the server ended the binlog dump: {text} (error {code})"
    if code in _POSITION_CODES:
        reason, advice = _POSITION_CODES[code]
        raise PositionError(f"{message}; {reason}", advice)
    if code == FATAL_READING_BINLOG:
        if re.search("anonymous transaction", text, re.IGNORECASE):
            raise AnonymousTransactionError(f"{message}; {_ANONYMOUS}")
        if found := _first_match(_POSITION, text):
            raise PositionError(f"{message}; {found[0]}", found[1])
        step = _first_match(_OTHER, text) or "see the server's error log"
        raise DumpEndedError(f"{message}; {step}", code)
    raise DumpEndedError(f"{message}; {_BY_CODE.get(code) or _first_match(_OTHER, text) or 'reconnect'}", code)


def _first_match(table: tuple[tuple[str, Found], ...], text: str) -> Found | None:
    return next((found for pattern, found in table if re.search(pattern, text, re.IGNORECASE)), None)
