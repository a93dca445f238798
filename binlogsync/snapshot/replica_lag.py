"""The lag of replicas, by their own status."""

from __future__ import annotations

from contextlib import closing

from binlogsync.errors import SourceError
from binlogsync.mysql.config import MySQLConfig, connect, error_code, fetch
from binlogsync.mysql.server import fetch_either
from binlogsync.mysql.session import Connection
from binlogsync.mysql.table_errors import DENIED

_STATEMENTS = ("SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SHOW SLAVE STATUS")
"""The first is MariaDB's, whose other statements show the unnamed channel only."""
_COLUMNS = ("Seconds_Behind_Source", "Seconds_Behind_Master")


def find_lagging(config: MySQLConfig, connection: Connection, limit_s: float, *, is_replica: bool) -> str | None:
    """Describes the first replica whose lag exceeds the limit, or that does not replicate; None if none is.

    Looks at the server of `connection` if it `is_replica`, and at `config.replicas`, with a connection to each. Raises
    SourceError if one cannot be reached, or if the account may not see its status.
    """
    if is_replica and (found := _describe(config, connection, limit_s)) is not None:
        return found
    for replica in config.replica_configs:
        with closing(connect(replica)) as own:
            if (found := _describe(replica, own, limit_s)) is not None:
                return found
    return None


def _describe(config: MySQLConfig, connection: Connection, limit_s: float) -> str | None:
    try:
        rows = fetch_either(config, connection, *_STATEMENTS)
    except SourceError as error:
        if error_code(error) not in DENIED:
            raise
        is_mariadb = "mariadb" in str(fetch(config, connection, "SELECT VERSION() AS version")[0]["version"]).lower()
        privilege = "SLAVE MONITOR" if is_mariadb else "REPLICATION CLIENT"
        raise SourceError(
            f"the lag of replica {config.address} cannot be read: {error}; run: GRANT {privilege} ON *.* TO the "
            f"account {config.user}, or unset BINLOGSYNC_LOAD_REPLICA_LAG_S"
        ) from error
    for row in rows:
        # MySQL shows all channels of a replica, with their names in another column.
        channel = row.get("Channel_Name") or row.get("Connection_name")
        replica = f"replica {config.address}" + (f", channel {channel}," if channel else "")
        behind = next((row[name] for name in _COLUMNS if name in row), None)
        if behind is None:
            return f"{replica} does not replicate (SHOW REPLICA STATUS on it has the reason)"
        if int(behind) > limit_s:
            return f"{replica} is {int(behind)} s behind its source (limit {limit_s:g} s)"
    return None
