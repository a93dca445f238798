"""Hostile values for every global variable of a running server that a new session starts from.

The server itself lists its variables with type and bounds, so one that a new version brings is tried too. What an
operator may set and we must report (`server.VARIABLES`) is left alone, and so are variables without a value that a
session could notice; each is named here with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pymysql

from binlogsync.mysql.server import VARIABLES
from binlogsync.servers import MariaDBServer
from binlogsync.servers.database import DatabaseServer

_SQL_MODE = "ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,NO_UNSIGNED_SUBTRACTION,HIGH_NOT_PRECEDENCE"
_SPOILED = "SET SESSION sql_select_limit = 1, autocommit = 0, timestamp = 1, time_zone = '-11:30'"
# Text, sets, and what is global but reaches every session.
_TEXTS: Mapping[str, Sequence[str]] = {
    "character_set_client": ("latin1",),
    "character_set_collations": ("utf8mb4=utf8mb4_bin", "utf8mb4=utf8mb4_uca1400_as_cs"),
    "character_set_connection": ("koi8r",),
    "character_set_database": ("utf16",),
    "character_set_filesystem": ("ucs2",),
    "character_set_results": ("latin1", "utf16"),
    "character_set_server": ("utf16",),
    "collation_connection": ("latin1_bin", "ucs2_general_ci"),
    "collation_database": ("latin1_bin",),
    "collation_server": ("latin1_bin",),
    "default_collation_for_utf8mb4": ("utf8mb4_general_ci",),
    "default_regex_flags": ("EXTENDED,DOTALL,UNGREEDY",),
    "default_storage_engine": ("MEMORY",),
    "init_connect": (_SPOILED,),
    "lc_messages": ("de_DE",),
    "lc_time_names": ("ja_JP",),
    "optimizer_switch": ("{all off}",),
    "sql_mode": (_SQL_MODE, "{oracle}"),
    "system_versioning_asof": ("2001-01-01 00:00:00",),
    "time_zone": ("-11:30", "+13:00"),
}
_LEFT_OUT = {
    # What is refused to accounts like ours, or what the connection itself may not exceed: the server reports an error.
    "connection_memory_chunk_size": "bounds no reading",
    "connection_memory_limit": "a session may not raise it; exceeding it is an error that names it",
    "global_connection_memory_tracking": "without it the limit above has no effect",
    "parser_max_mem_size": "a session may not raise it; exceeding it is an error that names it",
    "max_session_mem_used": "a session that starts beyond it can run no statement; the error names it",
    "max_user_connections": "a limit on accounts, with an error that names it",
    # Aliases of others, or of the account that runs the test.
    "tx_isolation": "transaction_isolation",
    "tx_read_only": "transaction_read_only",
    "storage_engine": "default_storage_engine",
    "sql_slave_skip_counter": "stops when replication does not run",
    "server_id": "identity, not a setting of sessions",
    "binlog_direct_non_transactional_updates": "for writers",
    "wsrep_on": "needs a cluster",
}


@dataclass(frozen=True, slots=True)
class HostileValue:
    """One variable, a value, and what it was."""

    name: str
    value: object
    original: object


class HostileDatabase:
    """Sets global variables of a server of the test's own, and sets them back."""

    def __init__(self, server: DatabaseServer) -> None:
        self._connection = server.connect()
        self._is_mariadb = isinstance(server, MariaDBServer)

    def close(self) -> None:
        self._connection.close()

    def choices(self) -> dict[str, list[HostileValue]]:
        """Name -> values to try, the most restrictive first."""
        found = {}
        for row in self._described():
            name = str(row["name"]).lower()
            if name in VARIABLES or name in _LEFT_OUT or name.startswith("wsrep_"):
                continue
            if values := [value for value in self._values(name, row) if str(value) != str(row["value"])]:
                found[name] = [HostileValue(name, value, row["value"]) for value in values]
        return found

    @contextmanager
    def set(self, chosen: Sequence[HostileValue]) -> Iterator[list[HostileValue]]:
        """Gives those that the server takes; the others are refused by itself, and so cannot occur."""
        taken = []
        try:
            for each in chosen:
                if self._set(each.name, each.value):
                    taken.append(each)
            yield taken
        finally:
            for each in reversed(taken):
                assert self._set(each.name, each.original), each

    def _set(self, name: str, value: object) -> bool:
        literal = "DEFAULT" if value == "DEFAULT" else self._connection.escape(value)
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"SET GLOBAL {name} = {literal}")
            except pymysql.MySQLError:
                return False
        return True

    def _described(self) -> list[dict[str, Any]]:
        """name, kind, lowest, highest, labels, value of each variable that sessions have, and of `init_connect`."""
        mariadb = (
            "SELECT VARIABLE_NAME AS name, VARIABLE_TYPE AS kind, NUMERIC_MIN_VALUE AS lowest, "
            "NUMERIC_MAX_VALUE AS highest, ENUM_VALUE_LIST AS labels FROM information_schema.SYSTEM_VARIABLES "
            "WHERE (VARIABLE_SCOPE = 'SESSION' AND READ_ONLY = 'NO') OR VARIABLE_NAME = 'INIT_CONNECT' ORDER BY 1"
        )
        mysql = (
            "SELECT VARIABLE_NAME AS name, DATA_TYPE AS kind, MIN_VALUE AS lowest, MAX_VALUE AS highest, '' AS labels "
            "FROM performance_schema.variables_metadata "
            "WHERE VARIABLE_SCOPE = 'SESSION' OR VARIABLE_NAME = 'init_connect' ORDER BY 1"
        )
        with self._connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute(mariadb if self._is_mariadb else mysql)
            rows = list(cursor.fetchall())
            for row in rows:
                cursor.execute(f"SELECT @@GLOBAL.{row['name']} AS value")
                row["value"] = (cursor.fetchone() or {})["value"]
        return rows

    def _values(self, name: str, row: Mapping[str, Any]) -> list[object]:
        if name in _TEXTS:
            return [self._text(text, str(row["value"])) for text in _TEXTS[name]]
        kind = str(row["kind"]).upper()
        if kind == "BOOLEAN":
            return [int(not row["value"])]
        if kind.startswith("ENUM"):
            return [label for label in str(row["labels"]).split(",") if label] or list(range(8))
        if row["lowest"] in (None, ""):
            return []  # text that names files, engines or variables to track
        number = float if kind in ("DOUBLE", "NUMERIC") else int
        lowest, highest = number(row["lowest"]), number(row["highest"])
        few = [value for value in (number(0.000001) if number is float else 1, 2) if lowest < value < highest]
        return [lowest, *few, highest]

    def _text(self, text: str, now: str) -> str:
        if text == "{all off}":
            return ",".join(f"{part.partition('=')[0]}=off" for part in now.split(","))
        if text == "{oracle}":
            return "ORACLE,EMPTY_STRING_IS_NULL" if self._is_mariadb else "TIME_TRUNCATE_FRACTIONAL,REAL_AS_FLOAT"
        return text
