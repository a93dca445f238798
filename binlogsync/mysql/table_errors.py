"""Error codes of statements that read or lock one table, by what they mean."""

from __future__ import annotations

import pymysql
from pymysql.constants import ER

from binlogsync.errors import SourceError
from binlogsync.mysql import error_codes as codes
from binlogsync.mysql.config import error_code

DENIED = frozenset(
    {
        ER.TABLEACCESS_DENIED_ERROR,
        ER.COLUMNACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
    }
)
MISSING = frozenset({ER.NO_SUCH_TABLE, ER.BAD_DB_ERROR})
INVALID = frozenset({ER.PARSE_ERROR})
LOCKED = frozenset({ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK})
CHANGED = MISSING | {ER.TABLE_DEF_CHANGED, ER.BAD_FIELD_ERROR, ER.KEY_DOES_NOT_EXITS}
"""The table is not the one that was described before."""
_TEMPORARY = frozenset(
    {
        *range(2000, 3000),
        codes.ER_CON_COUNT_ERROR,
        codes.ER_SERVER_SHUTDOWN,
        codes.ER_USER_LIMIT_REACHED,
        codes.ER_QUERY_INTERRUPTED,
        codes.ER_QUERY_TIMEOUT,
        codes.ER_SESSION_WAS_KILLED,
        codes.ER_CLIENT_INTERACTION_TIMEOUT,
        codes.MARIADB_ER_CONNECTION_KILLED,
        codes.MARIADB_ER_STATEMENT_TIMEOUT,
    }
)
"""Errors that pass by themselves: of the connection; too many connections, shutdown, limits of the account; a statement
or connection that was ended by an operator or a time limit, on MySQL and MariaDB.
"""


def is_outage(error: BaseException) -> bool:
    """True when the server cannot be reached or refuses work for a while. Another server, or a row that cannot be read,
    is none: that does not pass by itself.
    """
    no_answer = isinstance(error, SourceError) and isinstance(error.__cause__, OSError | pymysql.InterfaceError)
    return no_answer or error_code(error) in _TEMPORARY
