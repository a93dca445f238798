"""Error codes of statements that read or lock one table, by what they mean."""

from __future__ import annotations

import pymysql
from pymysql.constants import ER

from binlogsync.errors import SourceError
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
_LOST = frozenset({*range(2000, 3000), 1040, 1053, 1226, 1317, 1927, 1969, 3024, 3169, 4031})
"""Errors that pass by themselves: of the connection; too many connections, shutdown, limits of the account; a statement
or connection that was ended by an operator or a time limit, on MySQL and MariaDB.
"""


def is_outage(error: BaseException) -> bool:
    """True when the server cannot be reached or refuses work for a while. Another server, or a row that cannot be read,
    is none: that does not pass by itself.
    """
    no_answer = isinstance(error, SourceError) and isinstance(error.__cause__, OSError | pymysql.InterfaceError)
    return no_answer or error_code(error) in _LOST
