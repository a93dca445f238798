"""Checks whether the server is set up for change data capture. Each failed finding has the SQL that fixes it.

Global values count: they are what a new session gets. Row format and row image are also session variables, so a session
that was opened before the SQL ran keeps its old value until it reconnects; the messages mention it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from binlogsync.errors import PreflightError, SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch
from binlogsync.mysql.foreign_keys import unlogged_keys
from binlogsync.mysql.privileges import READ_BINLOG, Privileges, read_privileges
from binlogsync.mysql.server import ServerInfo, fetch_either, inspect
from binlogsync.mysql.session import Connection
from binlogsync.server_version import ServerFlavor
from binlogsync.text_format import format_hours

MIN_RETENTION_S = 86_400
_SHOWN = 10
_OLD_SESSIONS = " Sessions that are open now keep their old value until they reconnect."
_PERSIST = {ServerFlavor.MYSQL: "SET PERSIST", ServerFlavor.MARIADB: "SET GLOBAL"}  # MariaDB: put it into my.cnf too


@dataclass(frozen=True, slots=True)
class Finding:
    """One question and its answer.

    Attributes:
        name: of the check, "binlog_format".
        ok: True when nothing needs to be done.
        severity: "error" when capture would be wrong or impossible, "warning" when it is advice.
        message: what was found, and why it matters when it is not ok.
        fix_sql: the SQL that fixes it, "" when it is ok or SQL cannot fix it.
    """

    name: str
    ok: bool
    severity: Literal["error", "warning"]
    message: str
    fix_sql: str = ""


def preflight(config: MySQLConfig) -> list[Finding]:
    """All findings, passed ones too, in the order in which to fix them. Raises SourceError when a query fails."""
    connection = connect(config)
    try:
        info = inspect(config, connection)
        privileges = read_privileges(config, connection)
        findings = [
            *_settings(info),
            *_grants(privileges, info),
            *_server_ids(config, connection, info, privileges),
            *_advice(info),
            *_prepared(config, connection),
            *_foreign_keys(config, connection, info),
        ]
    finally:
        connection.close()
    return findings


def check(findings: Iterable[Finding]) -> None:
    """Raises PreflightError that lists each failed error with the SQL that fixes it; warnings pass."""
    failed = [finding for finding in findings if not finding.ok and finding.severity == "error"]
    if not failed:
        return
    lines = [
        f"- {finding.name}: {finding.message}" + (f"\n    {finding.fix_sql}" if finding.fix_sql else "")
        for finding in failed
    ]
    count = "1 setting" if len(failed) == 1 else f"{len(failed)} settings"
    raise PreflightError(f"the server is not ready for change data capture, {count} to fix:\n" + "\n".join(lines))


def _settings(info: ServerInfo) -> list[Finding]:
    """What has to be set on the server itself."""
    findings = [
        _finding(
            "log_bin",
            info.log_bin,
            "the server writes a binlog",
            "the server writes no binlog; put log_bin=binlog (and server_id=1) into its my.cnf under [mysqld] "
            "and restart it, "
            "SQL cannot turn it on",
        )
    ]
    findings.append(
        _setting(info, "binlog_format", info.binlog_format, ("ROW",), "the binlog holds statements, not rows.")
    )
    image = info.binlog_row_image
    reason = "row images are incomplete: handlers get absent keys in before and after, and mirrors refuse such changes."
    findings.append(replace(_setting(info, "binlog_row_image", image, ("FULL",), reason), severity="warning"))
    findings.append(_row_metadata(info))
    value = info.variables.get("binlog_row_value_options", "")
    if value and image == "MINIMAL":
        reason = "JSON updates are logged as differences from values that MINIMAL images do not contain."
        findings.append(_setting(info, "binlog_row_value_options", value, ("",), reason))
    return findings


def _row_metadata(info: ServerInfo) -> Finding:
    name, value = "binlog_row_metadata", info.binlog_row_metadata
    from_now = (
        "names, labels and keys are taken from information_schema as it is now, and rows of a table that was altered "
        "since stop the tail."
    )
    if not value:
        needed = "MariaDB 10.5" if info.flavor == ServerFlavor.MARIADB else "MySQL 8.0.1"
        bad = f"{info.version} cannot log column names ({needed} is the first that can): {from_now}"
        return Finding(name, False, "warning", bad)
    reason = f"table maps do not contain column names: {from_now}"
    return replace(_setting(info, name, value, ("FULL",), reason), severity="warning")


def _setting(info: ServerInfo, name: str, value: str, good: tuple[str, ...], reason: str) -> Finding:
    """A global variable that has to have one of the values `good`; the first is what the SQL sets."""
    if value in good:
        return Finding(name, True, "error", f"{name} is {value or 'empty'}")
    per_session = name != "binlog_row_metadata"
    wanted = good[0] if good[0] in ("ROW", "FULL") else f"'{good[0]}'"
    # PERSIST outlives a restart; a deprecated variable such as binlog_format takes it too.
    fix = f"{_PERSIST[info.flavor]} {name} = {wanted};"
    advice = _OLD_SESSIONS if per_session else ""
    return Finding(name, False, "error", f"{name} is {value}: {reason}{advice}", fix)


def _grants(privileges: Privileges, info: ServerInfo) -> list[Finding]:
    """Privileges of the account on all tables."""
    wanted: list[tuple[str, Literal["error", "warning"], str]] = [
        (READ_BINLOG, "error", "the binlog cannot be read"),
        (privileges.monitor, "error", "binlog files and positions cannot be seen"),
        ("SELECT", *_without_select(info)),
        ("LOCK TABLES", "warning", "mirrors and their checks cannot read tables at a known binlog position"),
    ]
    findings = []
    for privilege, severity, reason in wanted:
        ok = privileges.holds(privilege)
        good = f"{privileges.account} has {privilege}"
        bad = f"{privileges.account} does not have {privilege} on *.*: {reason}"
        databases, revoked = privileges.databases(privilege), privileges.revoked(privilege)
        if ok and revoked:
            good = f"{good} except on {', '.join(revoked)}: there {reason}"
        elif not ok and databases and severity == "warning":
            ok, good = True, f"{good} on {', '.join(databases)} only: elsewhere {reason}"
        findings.append(_finding(f"grant {privilege}", ok, good, bad, privileges.grant(privilege), severity))
    return findings


def _without_select(info: ServerInfo) -> tuple[Literal["error", "warning"], str]:
    """How bad it is when tables cannot be read."""
    if info.binlog_row_metadata == "FULL":
        return "warning", "snapshots and checks of mirrors cannot read the tables"
    return "error", "information_schema hides the tables, whose columns the binlog does not name"


def _server_ids(config: MySQLConfig, connection: Connection, info: ServerInfo, privileges: Privileges) -> list[Finding]:
    """The server has an id, and ours is neither its own nor another replica's."""
    own = _finding(
        "server_id",
        info.server_id != 0,
        f"the server's id is {info.server_id}",
        "the server's id is 0, so it serves no binlog",
        f"{_PERSIST[info.flavor]} server_id = 1;",
    )
    name, ours = "replica server_id", config.replica_id
    advice = "set another server_id for this source"
    if ours == info.server_id:
        return [own, Finding(name, False, "error", f"{ours} is the server's own id; {advice}")]
    try:
        replicas = fetch_either(config, connection, "SHOW REPLICAS", "SHOW SLAVE HOSTS")
    except SourceError as error:
        if not error_code(error):
            raise
        fix = privileges.grant(READ_BINLOG if info.flavor == ServerFlavor.MYSQL else "REPLICATION MASTER ADMIN")
        message = f"whether another reader uses id {ours} is unknown: the account may not list replicas"
        return [own, Finding(name, False, "warning", message, fix)]
    rows: list[Mapping[str, str]] = [{key.lower(): str(value) for key, value in row.items()} for row in replicas]
    others = [row["host"] for row in rows if row["server_id"] == str(ours) and row["host"] != config.replica_name]
    bad = f"{ours} is the id of another replica ({', '.join(others) or 'unnamed'}); {advice}"
    return [own, _finding(name, not others, f"no other replica has id {ours}", bad)]


def _advice(info: ServerInfo) -> list[Finding]:
    """Recommended settings."""
    days = "never" if info.expire_s is None else f"after {format_hours(info.expire_s)}"
    seconds = "binlog_expire_logs_seconds"
    modes = ("OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON")
    mode = info.variables.get("gtid_mode", "OFF").upper()
    gtid_advice = (
        f"not every transaction has a GTID (gtid_mode is {mode}): positions end with this server, a failover needs a "
        "new start. Turn gtid_mode on step by step, the last when SHOW STATUS LIKE 'Ongoing_anonymous%' is 0 and the "
        "tail has caught up: with ON the server sends no transaction from before"
    )
    following = modes[modes.index(mode) + 1 :] if mode in modes else modes[1:]
    steps = "SET PERSIST enforce_gtid_consistency = ON; " + " ".join(
        f"SET PERSIST gtid_mode = {each};" for each in following
    )
    return [
        _finding(
            "retention",
            info.expire_s is None or info.expire_s >= MIN_RETENTION_S,
            f"binlogs are purged {days}",
            f"binlogs are purged {days}: a tail that is down for longer loses its position",
            f"{_PERSIST[info.flavor]} {seconds if seconds in info.variables else 'expire_logs_days'} = "
            f"{604800 if seconds in info.variables else 7};",
            "warning",
        ),
        _finding("gtids", info.gtids, "every transaction has a GTID", gtid_advice, steps, "warning"),
        _finding(
            "binlog filters",
            not info.filtered,
            "all databases are logged",
            f"the server leaves databases out of its binlog ({info.filtered}); their changes cannot be seen",
            severity="warning",
        ),
    ]


def _prepared(config: MySQLConfig, connection: Connection) -> list[Finding]:
    """XA transactions that wait for their XA COMMIT; nothing when the account may not ask."""
    try:
        waiting = len(fetch(config, connection, "XA RECOVER"))
    except SourceError as error:
        if not error_code(error):
            raise
        return []
    bad = (
        f"{waiting} XA transactions are prepared: a tail reads from before their changes when it starts again, and "
        "needs the binlogs back to there. Commit them, or roll them back"
    )
    return [_finding("prepared XA", not waiting, "no XA transaction is prepared", bad, severity="warning")]


def _foreign_keys(config: MySQLConfig, connection: Connection, info: ServerInfo) -> list[Finding]:
    """Tables that foreign keys change, where the server does not log that."""
    keys = unlogged_keys(config, connection)
    if keys is None:
        return [Finding("foreign keys", True, "warning", "what foreign keys do to rows is logged")]
    shown = ", ".join(map(str, keys[:_SHOWN])) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
    native = info.flavor == ServerFlavor.MYSQL and info.version_number >= (9, 6)
    cure = "; put innodb_native_foreign_keys=OFF into my.cnf under [mysqld] and restart the server" if native else ""
    bad = (
        f"the server does not log what foreign keys do to rows of {shown}: mirrors of these tables are read again "
        f"after each such change, and handlers do not get it{cure}"
    )
    return [_finding("foreign keys", not keys, "no foreign key changes rows of other tables", bad, severity="warning")]


def _finding(
    name: str, ok: bool, good: str, bad: str, fix_sql: str = "", severity: Literal["error", "warning"] = "error"
) -> Finding:
    return Finding(name, True, severity, good) if ok else Finding(name, False, severity, bad, fix_sql)
