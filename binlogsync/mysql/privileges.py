"""The privileges of the account, from SHOW GRANTS: on all tables, on databases, and partial revokes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass

from binlogsync.mysql.config import MySQLConfig, connect, fetch, fetch_row
from binlogsync.mysql.session import Connection
from binlogsync.server_version import ServerFlavor, parse_server_version
from binlogsync.sql_identifiers import MYSQL_QUOTED

READ_BINLOG = "REPLICATION SLAVE"
_SEE_BINLOG = "REPLICATION CLIENT"
_DATABASE = rf"ON (?P<name>{MYSQL_QUOTED})\.\*"


@dataclass(frozen=True, slots=True)
class Privileges:
    """Those of one account, its active roles included.

    Attributes:
        account: as the server takes it, and GRANT wants it: 'name'@'host'.
        monitor: what the server calls the privilege to see binlogs and positions.
        lines: of SHOW GRANTS.
    """

    account: str
    monitor: str
    lines: tuple[str, ...]

    def holds(self, privilege: str) -> bool:
        """True when the account has it on all tables."""
        held = global_privileges(self.lines)
        return bool({privilege, "ALL PRIVILEGES"} & held) or (privilege == self.monitor and _SEE_BINLOG in held)

    def databases(self, privilege: str) -> list[str]:
        """The databases on which the account has it."""
        return database_privileges(self.lines, privilege)

    def revoked(self, privilege: str) -> list[str]:
        """The databases on which a partial revoke takes it away."""
        return database_privileges(self.lines, privilege, verb="REVOKE")

    def grant(self, privilege: str) -> str:
        """The SQL that gives it on all tables."""
        return f"GRANT {privilege} ON *.* TO {self.account};"


def read_privileges(config: MySQLConfig, connection: Connection | None = None) -> Privileges:
    """Of the account of this configuration. Raises SourceError."""
    if connection is None:
        with closing(connect(config)) as own:
            return read_privileges(config, own)
    row = fetch_row(config, connection, "SELECT CURRENT_USER() AS user, VERSION() AS version")
    user, _, host = str(row["user"]).rpartition("@")
    flavor, _ = parse_server_version(str(row["version"]))
    monitor = "BINLOG MONITOR" if flavor == ServerFlavor.MARIADB else _SEE_BINLOG
    lines = tuple(str(next(iter(row.values()))) for row in fetch(config, connection, "SHOW GRANTS"))
    return Privileges(f"'{user}'@'{host}'", monitor, lines)


def grants_for_tail(config: MySQLConfig) -> list[str]:
    """The GRANT statements for the privileges that the account is missing for a tail. Raises SourceError."""
    privileges = read_privileges(config)
    wanted = (READ_BINLOG, privileges.monitor)
    return [privileges.grant(each) for each in wanted if not privileges.holds(each)]


def global_privileges(grants: Iterable[str]) -> frozenset[str]:
    """Privileges on *.* named by the lines of SHOW GRANTS, upper case."""
    held: set[str] = set()
    for line in grants:
        if match := re.match(r"GRANT (?P<list>.+?) ON \*\.\* TO ", line, re.IGNORECASE):
            held |= _listed(match["list"])
    return frozenset(held)


def database_privileges(grants: Iterable[str], privilege: str, *, verb: str = "GRANT") -> list[str]:
    """The databases, as GRANT names them, of whose tables all have this privilege by lines of SHOW GRANTS."""
    found = []
    for line in grants:
        match = re.match(rf"{verb} (?P<list>.+?) {_DATABASE} (?:TO|FROM) ", line, re.IGNORECASE)
        if match and {privilege, "ALL PRIVILEGES"} & _listed(match["list"]):
            found.append(match["name"])
    return found


def _listed(text: str) -> set[str]:
    return {privilege.strip().upper() for privilege in text.split(",")}
