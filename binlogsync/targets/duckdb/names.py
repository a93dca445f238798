"""Names of mirrors in a DuckDB file: MySQL's database and table as schema and table, if these are free.

DuckDB compares names without regard to the case of ASCII letters, has system schemas, and the name may be in use as the
history of another mirror. Then the mirror gets the first free name of `<table>__2`, `<table>__3` ... The name is stored
with the mirror's state when it is first used, and does not change afterwards.

Names of helper tables are longer than 64 characters, the maximum in MySQL, so they cannot collide with a mirror.
"""

from __future__ import annotations

import hashlib
import logging
from itertools import chain, count
from string import ascii_lowercase, ascii_uppercase

import duckdb

from binlogsync.targets.duckdb.file import META_SCHEMA, first_row, quote
from binlogsync.targets.mirror_state import REPLAY_MARK, MirrorState

log = logging.getLogger(__name__)

MIRRORS = f"{META_SCHEMA}.mirrors"

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_SYSTEM_SCHEMAS = frozenset({"information_schema", "pg_catalog"})
RESERVED_SCHEMAS = _SYSTEM_SCHEMAS | {META_SCHEMA}


def find_location(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> tuple[str, str]:
    """(schema, table) for a new mirror."""
    wanted = database.removesuffix(REPLAY_MARK)
    schema = f"{wanted}__2" if wanted.lower() in _SYSTEM_SCHEMAS else wanted
    name = next(name for name in _candidates(table) if not is_taken(connection, schema, name))
    if (schema, name) != (wanted, table):
        log.warning(
            "%s.%s is mirrored into the table %s: DuckDB, or another mirror in this file, uses the name",
            *(wanted, table, quote(schema, name)),
        )
    return schema, name


def free_name(connection: duckdb.DuckDBPyConnection, schema: str, wanted: str) -> str:
    """The wanted name, with a number if a table or view of the schema has it or a mirror has reserved it."""
    return next(
        name
        for name in _candidates(wanted)
        if not is_taken(connection, schema, name) and not has_relation(connection, schema, name)
    )


def is_taken(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """True when a mirror or its history has this name; ignores case."""
    wanted, history = fold_sql("?"), fold_sql("coalesce(history_table, '')")
    found = first_row(
        connection,
        f"SELECT count(*) FROM {MIRRORS} WHERE {fold_sql('coalesce(duck_schema, database)')} = {wanted} AND "
        f"{wanted} IN ({fold_sql('coalesce(duck_table, table_name)')}, {history})",
        [schema, name],
    )
    return found != (0,)


def has_relation(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """True when the file has a table or view of this name; ignores case."""
    found = first_row(
        connection,
        "SELECT count(*) FROM (SELECT database_name, schema_name, table_name FROM duckdb_tables() UNION ALL "
        "SELECT database_name, schema_name, view_name FROM duckdb_views()) WHERE database_name = current_database() "
        f"AND {fold_sql('schema_name')} = {fold_sql('?')} AND {fold_sql('table_name')} = {fold_sql('?')}",
        [schema, name],
    )
    return found != (0,)


def fold_sql(sql: str) -> str:
    """SQL of a name in the form that DuckDB compares: only ASCII letters ignore case."""
    return f"translate({sql}, '{ascii_uppercase}', '{ascii_lowercase}')"


def fold_name(name: str) -> str:
    """The name in the form that DuckDB compares, as fold_sql."""
    return name.translate(_LOWER)


def locate(connection: duckdb.DuckDBPyConnection, database: str, table: str) -> tuple[str, str]:
    """(schema, table) of the mirror of a MySQL table; the same names if the file has no mirror of it."""
    if not has_relation(connection, META_SCHEMA, "mirrors"):
        return database, table
    row = first_row(
        connection,
        "SELECT coalesce(duck_schema, database), coalesce(duck_table, table_name) FROM "
        f"{MIRRORS} WHERE database = ? AND table_name = ?",
        [database, table],
    )
    return (database, table) if row is None else (str(row[0]), str(row[1]))


def qualify(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> str:
    """The quoted name with the catalog, because catalog and schema may have the same name."""
    (catalog,) = first_row(connection, "SELECT current_database()") or ("",)
    return quote(catalog, schema, table)


def table_sql(state: MirrorState) -> str:
    """The mirror's table, as SQL, with its catalog, because a schema may have the name of a catalog."""
    return quote(*state.location)


def sibling_sql(state: MirrorState, table: str) -> str:
    """Another table in the schema of the mirror, as SQL."""
    return quote(*state.location[:2], table)


def live_condition(state: MirrorState) -> str:
    """SQL that is true for rows of the mirror that are not deleted."""
    return "true" if state.deleted_at is None else f"{quote(state.deleted_at)} IS NULL"


def spare_of(state: MirrorState, purpose: str) -> str:
    """Name of a helper table that replaces the mirror's table later."""
    own = (state.database, state.table) if state.policies.is_placed else ()  # another mirror may want the location
    return spare_name(purpose, "\0".join((state.location[2], *own)))


def spare_name(purpose: str, table: str) -> str:
    """A name for a helper table beside the mirror, the same for the same table and purpose."""
    return f"binlogsync_{purpose}_{hashlib.sha256(table.encode()).hexdigest()}"


def _candidates(name: str) -> chain[str]:
    return chain([name], (f"{name}__{number}" for number in count(2)))
