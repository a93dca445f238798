"""Tables whose rows read otherwise where a setting of the server reaches the session that reads them."""

from __future__ import annotations

from binlogsync.servers import MariaDBServer
from binlogsync.servers.database import DatabaseServer
from tests.mysql.sources import run

ROWS = 301
_COLUMNS = (
    "id INT UNSIGNED PRIMARY KEY, name VARCHAR(40) CHARACTER SET utf8mb4, fixed CHAR(9) CHARACTER SET latin1, "
    "f FLOAT, d DECIMAL(30, 10), at TIMESTAMP(6) NULL, dt DATETIME(3), t TIME(2), day DATE, y YEAR, b BIT(9), "
    "e ENUM('größe', 'it''s') CHARACTER SET utf8mb4, j JSON, raw VARBINARY(9), g INT AS (id + 1) STORED"
)
_VALUES = (
    "({i}, 'Ω {i} \\\\ \"q\"', 'é', {i} / 7, {i} / 3, '2024-03-10 02:30:00.{i:06}', '0000-00-00', '-838:59:58.99', "
    "'2024-00-00', 2024, {i}, 'größe', '{{\"a\": {i}}}', 0x00FF5C, DEFAULT)"
)
SESSION = ("SET NAMES utf8mb4", "SET SESSION sql_mode = '', time_zone = '+00:00'")
"""What a session runs first that writes rows of `row_values`."""


def row_values(first: int, last: int) -> str:
    """The VALUES of rows of `held.keyed` with these ids."""
    return ", ".join(_VALUES.format(i=i) for i in range(first, last + 1))


def create_tables(server: DatabaseServer) -> None:
    """The database `held`: `keyed` with many types, `bare` without a key, `isam` without transactions."""
    versioned = " WITH SYSTEM VERSIONING" if isinstance(server, MariaDBServer) else ""
    run(
        server,
        *SESSION,
        "CREATE DATABASE held",
        f"CREATE TABLE held.keyed ({_COLUMNS})",
        f"INSERT INTO held.keyed VALUES {row_values(1, ROWS)}",
        f"CREATE TABLE held.bare (v INT){versioned}",
        "INSERT INTO held.bare SELECT id FROM held.keyed WHERE id < 9",
        "UPDATE held.bare SET v = v + 1",
        "CREATE TABLE held.isam (id INT PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO held.isam SELECT id FROM held.keyed",
    )
