"""The state of a server at one moment: version, variables, GTID sets and binlog files.

`inspect_server` uses plain SQL and tolerates missing information (no binlog, no privilege), which the preflight
reports. This module contains the differences in syntax between MySQL 5.7-9.x and MariaDB 10.x-12.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pymysql.constants import ER

from binlogsync.errors import PositionError, SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch, fetch_row, translate_errors
from binlogsync.mysql.error_codes import ER_NO_BINARY_LOGGING
from binlogsync.mysql.session import Connection
from binlogsync.position import BinlogPosition, GtidSet
from binlogsync.position_order import PositionOrder, compare
from binlogsync.server_version import ServerFlavor, mariadb_server_uuid, parse_server_version
from binlogsync.table_names import Fold, fold_of

VARIABLES = (
    "version",
    "server_id",
    "log_bin",
    "log_bin_compress",
    "gtid_mode",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_checksum",
    "binlog_transaction_compression",
    "binlog_expire_logs_seconds",
    "expire_logs_days",
    "max_binlog_total_size",
    "binlog_space_limit",
    "binlog_expire_logs_auto_purge",
    "max_binlog_size",
    "read_only",
    "lower_case_table_names",
)
_DENIED = frozenset({ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.ACCESS_DENIED_ERROR})


@dataclass(frozen=True, slots=True)
class BinlogFile:
    """One file of SHOW BINARY LOGS, size in bytes."""

    name: str
    size: int

    @property
    def number(self) -> int:
        """The number that ends its name."""
        return BinlogPosition(self.name, 0).file_number


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """State of a server at one moment.

    Attributes:
        version: as the server prints it.
        flavor: MySQL or MariaDB.
        server_uuid: of MySQL; "mariadb:<server_id>" for MariaDB, which has none.
        server_id: its own.
        gtids: True when every transaction has a GTID (MySQL's gtid_mode=ON; MariaDB always).
        executed: transactions in the server, None without GTIDs.
        purged: transactions that its binlogs no longer hold, None without GTIDs.
        files: binlogs, oldest first; empty when it has none or does not show them.
        position: end of the binlog, None when it has none or does not show it.
        may_see_files: False when the account does not have the privilege for `files` and `position`.
        filtered: databases that --binlog-do-db and --binlog-ignore-db name, as the server prints them.
        expire_s: seconds after which binlogs are purged, None for never.
        variables: global values of VARIABLES, those that the server has.
    """

    version: str
    flavor: ServerFlavor
    server_uuid: str
    server_id: int
    gtids: bool
    executed: GtidSet | None
    purged: GtidSet | None
    files: tuple[BinlogFile, ...]
    position: BinlogPosition | None
    may_see_files: bool
    filtered: str
    expire_s: float | None
    variables: Mapping[str, str] = field(repr=False)

    @property
    def log_bin(self) -> bool:
        """True when the server writes a binlog."""
        return self.variables.get("log_bin", "OFF") in ("ON", "1")

    @property
    def is_read_only(self) -> bool:
        """True when applications may not write, as on a replica that was not promoted."""
        return self.variables.get("read_only", "OFF").upper() not in ("OFF", "0")

    @property
    def binlog_format(self) -> str:
        """ROW, MIXED or STATEMENT; a server without the variable knows ROW only."""
        return self.variables.get("binlog_format", "ROW").upper()

    @property
    def binlog_row_image(self) -> str:
        """FULL, NOBLOB, MINIMAL, or MariaDB's FULL_NODUP."""
        return self.variables.get("binlog_row_image", "FULL").upper()

    @property
    def binlog_row_metadata(self) -> str:
        """FULL, MINIMAL, MariaDB's NO_LOG; "" on servers too old to have it."""
        return self.variables.get("binlog_row_metadata", "").upper()

    @property
    def checksum(self) -> str:
        """CRC32 or NONE."""
        return self.variables.get("binlog_checksum", "NONE").upper()

    @property
    def fold(self) -> Fold:
        """How it compares names of databases and tables."""
        return fold_of(self.variables.get("lower_case_table_names"))

    @property
    def version_number(self) -> tuple[int, ...]:
        """(9, 7, 4)."""
        return parse_server_version(self.version).number

    def file(self, name: str) -> BinlogFile | None:
        """The binlog of that name, None when the server has it no longer, or not yet."""
        return next((file for file in self.files if file.name == name), None)

    def has_purged(self, position: BinlogPosition) -> bool:
        """True when the file of the position is older than the oldest binlog."""
        return bool(self.files) and compare(position, BinlogPosition(self.files[0].name, 0)) is PositionOrder.BEFORE

    def end(self) -> BinlogPosition:
        """The end of the binlog; raises SourceError when it cannot be seen."""
        if self.position is None:
            monitor = "REPLICATION CLIENT" if self.flavor == ServerFlavor.MYSQL else "BINLOG MONITOR"
            hidden = f"does not show it, because the account does not have {monitor}"
            reason = "writes none (log_bin is off)" if self.may_see_files else hidden
            raise SourceError(
                f"the end of the binlog is unknown: the server {reason}; binlogsync doctor prints the fix"
            )
        return self.position


def inspect_server(config: MySQLConfig) -> ServerInfo:
    """Look at the server. Raises SourceError when it cannot be reached or does not answer."""
    connection = connect(config)
    try:
        return inspect(config, connection)
    finally:
        connection.close()


def inspect(config: MySQLConfig, connection: Connection) -> ServerInfo:
    """The same over a connection that is open already."""
    with translate_errors(config):
        return _inspect(config, connection)


def _inspect(config: MySQLConfig, connection: Connection) -> ServerInfo:
    marks = ", ".join(["%s"] * len(VARIABLES))
    rows = fetch(config, connection, f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({marks})", VARIABLES)
    values = {str(row["Variable_name"]).lower(): str(row["Value"]) for row in rows}
    if missing := [name for name in ("version", "server_id") if name not in values]:
        raise SourceError(
            f"{config.user} at {config.address}: the server does not show {', '.join(missing)}; "
            "binlogsync needs a MySQL or MariaDB server itself, not a proxy that hides them"
        )
    flavor = parse_server_version(values["version"]).flavor
    has_gtids = flavor == ServerFlavor.MARIADB or values.get("gtid_mode", "OFF") == "ON"
    files, status, may_see = _binlogs(config, connection)
    position = BinlogPosition(str(status["File"]), int(status["Position"])) if status else None
    # Asked after the end of the binlog, so that nothing before that end is missing from it.
    executed, purged = _gtids(config, connection, flavor, files) if has_gtids else (None, None)
    filters = (("--binlog-do-db", "Binlog_Do_DB"), ("--binlog-ignore-db", "Binlog_Ignore_DB"))
    return ServerInfo(
        version=values["version"],
        flavor=flavor,
        server_uuid=_server_uuid(config, connection, flavor) or mariadb_server_uuid(int(values["server_id"])),
        server_id=int(values["server_id"]),
        gtids=has_gtids,
        executed=executed,
        purged=purged,
        files=files,
        position=position,
        may_see_files=may_see,
        filtered=" ".join(f"{option}={status[column]}" for option, column in filters if status.get(column)),
        expire_s=_expire_s(values),
        variables=values,
    )


def _server_uuid(config: MySQLConfig, connection: Connection, flavor: ServerFlavor) -> str:
    """Of MySQL, "" of MariaDB. As bytes: MySQL takes it for text in character_set_filesystem."""
    if flavor == ServerFlavor.MARIADB:
        return ""
    sql = "SELECT CAST(@@GLOBAL.server_uuid AS BINARY) AS uuid"
    return bytes(fetch_row(config, connection, sql)["uuid"]).decode()


def _binlogs(config: MySQLConfig, connection: Connection) -> tuple[tuple[BinlogFile, ...], dict[str, Any], bool]:
    """(files, row of SHOW BINARY LOG STATUS or {}, whether the account may see them)."""
    try:
        files = fetch(config, connection, "SHOW BINARY LOGS")
        status = fetch_either(config, connection, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
    except SourceError as error:
        if error_code(error) == ER_NO_BINARY_LOGGING:
            return (), {}, True
        if error_code(error) in _DENIED:
            return (), {}, False
        raise
    found = tuple(BinlogFile(str(row["Log_name"]), int(row["File_size"])) for row in files)
    return found, status[0] if status else {}, True


def fetch_either(config: MySQLConfig, connection: Connection, sql: str, *others: str) -> list[dict[str, Any]]:
    """The rows of the first of these statements that the server knows, for example of an older spelling."""
    try:
        return fetch(config, connection, sql)
    except SourceError as error:
        if error_code(error) != ER.PARSE_ERROR or not others:
            raise
        return fetch_either(config, connection, *others)


def _gtids(
    config: MySQLConfig, connection: Connection, flavor: ServerFlavor, files: tuple[BinlogFile, ...]
) -> tuple[GtidSet, GtidSet | None]:
    """(executed, purged)."""
    if flavor == ServerFlavor.MYSQL:
        # SHOW VARIABLES cuts long values.
        row = fetch_row(config, connection, "SELECT @@GLOBAL.gtid_executed AS executed, @@GLOBAL.gtid_purged AS purged")
        return GtidSet.parse(row["executed"], ServerFlavor.MYSQL), GtidSet.parse(row["purged"], ServerFlavor.MYSQL)
    row = fetch_row(config, connection, "SELECT @@GLOBAL.gtid_binlog_pos AS executed")
    purged = mariadb_gtids_at(config, connection, BinlogPosition(files[0].name, 4)) if files else None
    return GtidSet.parse(row["executed"], ServerFlavor.MARIADB), purged


def mariadb_gtids_at(config: MySQLConfig, connection: Connection, position: BinlogPosition) -> GtidSet | None:
    """MariaDB's GTID position at the start of an event, None where no event starts there."""
    sql = "SELECT BINLOG_GTID_POS(%s, %s) AS gtids"
    text = fetch_row(config, connection, sql, (position.file, position.pos))["gtids"]
    return None if text is None else GtidSet.parse(text, ServerFlavor.MARIADB)


def mariadb_unknown(config: MySQLConfig, connection: Connection, gtids: GtidSet) -> list[str]:
    """The GTIDs of a MariaDB position that its binlog never held, each as the server writes it.

    @@gtid_binlog_state contains the last sequence number of each domain and server, so that a sequence number that two
    servers have assigned is recognized.
    """
    reached = _mariadb_state(config, connection)
    return [
        f"{domain}-{server}-{number}"
        for domain, ((server, number),) in gtids.members.items()
        if reached.get((domain, server), 0) < number
    ]


def mariadb_known(config: MySQLConfig, connection: Connection, gtids: GtidSet) -> GtidSet:
    """The position as far as its binlog ever held it."""
    reached = _mariadb_state(config, connection)
    members = {
        domain: ((server, min(number, reached[domain, server])),)
        for domain, ((server, number),) in gtids.members.items()
        if (domain, server) in reached
    }
    return GtidSet(ServerFlavor.MARIADB, members)


def _mariadb_state(config: MySQLConfig, connection: Connection) -> dict[tuple[str, int], int]:
    """(domain, server id) -> last sequence number in the binlog."""
    text = fetch_row(config, connection, "SELECT @@GLOBAL.gtid_binlog_state AS gtids")["gtids"]
    parts = [each.strip().split("-") for each in str(text).split(",") if each.strip()]
    return {(domain, int(server)): int(number) for domain, server, number in parts}


def gtid_subtract(config: MySQLConfig, connection: Connection, minuend: GtidSet, subtrahend: GtidSet) -> GtidSet:
    """The transactions of one MySQL set that are not in another, computed by the server."""
    sql = "SELECT GTID_SUBTRACT(%s, %s) AS gtids"
    text = fetch_row(config, connection, sql, (str(minuend), str(subtrahend)))["gtids"]
    if text is None:
        raise PositionError(
            f"the server does not understand the GTID sets {minuend} and {subtrahend}; check their spelling"
        )
    return GtidSet.parse(text, ServerFlavor.MYSQL)


def clock_us(config: MySQLConfig, connection: Connection) -> int:
    """The server's clock, microseconds since 1970 UTC."""
    sql = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED) AS now_us"
    with translate_errors(config):
        return int(fetch_row(config, connection, sql)["now_us"])


def _expire_s(values: Mapping[str, str]) -> float | None:
    """Whichever of the two settings is not 0; MariaDB keeps them equal."""
    seconds = float(values.get("binlog_expire_logs_seconds", "0"))
    days = float(values.get("expire_logs_days", "0"))
    return seconds or days * 86400 or None
