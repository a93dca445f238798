"""Error codes of statements that read or lock one table, by what they mean."""

from __future__ import annotations

from pymysql.constants import ER

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
