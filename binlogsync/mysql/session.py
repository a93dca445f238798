"""The session variables of all connections, so that global settings of the server do not change what is read.

A new session starts with the server's global values: a statement timeout, a row limit or a time zone that an operator
chose for applications would truncate or change results without an error. `prepare_session` sets each variable that
the statements of this package depend on; it needs no privilege. tests/mysql/test_session.py sets all variables of both
servers to hostile values. The connection itself is opened in `config.connect` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pymysql

if TYPE_CHECKING:
    Connection = pymysql.Connection[Any]
else:  # generic in its type stubs only
    Connection = pymysql.Connection

COLLATION = "utf8mb4_general_ci"  # every server has it; the default of SET NAMES is a setting of the server
_PATIENCE_S = 600
_LOCK_WAIT_S = 10
_NO_LIMIT = 2**64 - 1

# What the statements that follow depend on. Only MySQL reads a comment of version 50708, only MariaDB one of M!.
_FIRST = (
    f"SET SESSION sql_mode = '', autocommit = 1, completion_type = 0, sql_select_limit = {_NO_LIMIT}, "
    f"max_join_size = {_NO_LIMIT}, sql_big_selects = 1, "  # in this order: the former turns the latter off
    # Without merging of derived tables, each query on information_schema of MySQL reads all tables of the server; the
    # order in which it reads them depends on the other two.
    "optimizer_switch = 'derived_merge=on', optimizer_prune_level = 1, optimizer_search_depth = 62, "
    "timestamp = DEFAULT /*!50708 , max_execution_time = 0 */ "
    f"/*M! , max_statement_time = 0, tmp_disk_table_size = {_NO_LIMIT} */ "
    "/*M!101000 , optimizer_prune_level = 2 */ /*M!110500 , max_tmp_session_space_usage = 0 */"
)
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE"
# Set where the server has them and their value is another one, as SHOW VARIABLES prints it.
VARIABLES: Mapping[str, str] = {
    "time_zone": "+00:00",
    "lc_messages": "en_US",
    "sql_auto_is_null": "OFF",
    "sql_buffer_result": "OFF",
    "join_buffer_size": str(256 << 10),  # a huge one costs seconds at each look at information_schema
    "sort_buffer_size": str(2 << 20),  # information_schema cannot be sorted in the smallest
    "sql_quote_show_create": "ON",
    "wait_timeout": "28800",
    "net_read_timeout": str(_PATIENCE_S),
    # A reader that is busy for a while must not cost the connection.
    "net_write_timeout": str(_PATIENCE_S),
    # The default of a year would keep a reader, and the writers queued after it, waiting for a DDL statement.
    "lock_wait_timeout": str(_LOCK_WAIT_S),
    # MySQL: a generated invisible primary key is in the binlog, so it has to be in information_schema.
    "show_gipk_in_create_table_and_information_schema": "ON",
    "use_secondary_engine": "OFF",
    # MariaDB.
    "idle_transaction_timeout": "0",
    "idle_readonly_transaction_timeout": "0",
    "idle_write_transaction_timeout": "0",
    "max_session_mem_used": str(2**63 - 1),
    "old_mode": "",
    "query_cache_type": "OFF",
    "system_versioning_asof": "DEFAULT",
    "wsrep_dirty_reads": "OFF",
}


def prepare_session(connection: Connection) -> None:
    """Set the session variables. Raises what pymysql raises; a variable that the server refuses is named."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST)
        cursor.execute(_ISOLATION)
        marks = ", ".join(["%s"] * len(VARIABLES))
        cursor.execute(f"SHOW SESSION VARIABLES WHERE Variable_name IN ({marks})", tuple(VARIABLES))
        found = {str(row[0]).lower(): str(row[1]) for row in cursor.fetchall()}
        wanted = [f"{name} = {_literal(value)}" for name, value in VARIABLES.items() if found.get(name, value) != value]
        if not wanted:
            return
        try:
            cursor.execute(f"SET SESSION {', '.join(wanted)}")
        except pymysql.MySQLError:
            _set_each(cursor, wanted)


def _set_each(cursor: pymysql.cursors.Cursor, assignments: list[str]) -> None:
    """One statement for each, so that the error names the variable."""
    for assignment in assignments:
        try:
            cursor.execute(f"SET SESSION {assignment}")
        except pymysql.MySQLError as error:
            code, text = error.args[0], error.args[-1]
            message = f"the server refuses SET SESSION {assignment}, without which rows may be missing or wrong: {text}"
            raise type(error)(code, message) from error


def _literal(value: str) -> str:
    return value if value.isdigit() or value == "DEFAULT" else f"'{value}'"
