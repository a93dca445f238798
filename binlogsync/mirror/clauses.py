"""Parses ALTER TABLE and CREATE TABLE into the clauses that change columns or rows.

The parser is strict: an unknown clause, attribute or option makes the result for the whole statement None, so that no
statement is applied partially. Clauses that change neither columns nor rows (indexes, checks, comments, engines,
partitions that keep their rows) are not returned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.binlog.sql import SqlDialect, TokenCursor
from binlogsync.mirror.column_definition import ColumnPosition, UnsupportedSQLError, read_definition
from binlogsync.mirror.types import UNKNOWN_CHARSET, read_charset
from binlogsync.schema import Column
from binlogsync.targets.conversion import ColumnDefinition


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD COLUMN; `if_not_exists` is MariaDB's IF NOT EXISTS."""

    definition: ColumnDefinition
    position: ColumnPosition
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """CHANGE or MODIFY of the column `old`."""

    old: str
    definition: ColumnDefinition
    position: ColumnPosition
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME COLUMN."""

    old: str
    new: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP COLUMN."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetKey:
    """ADD or DROP PRIMARY KEY: the new key columns; () for none."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveRows:
    """DISCARD TABLESPACE, or TRUNCATE PARTITION ALL: all rows are deleted."""


@dataclass(frozen=True, slots=True)
class ConvertCharset:
    """CONVERT TO CHARACTER SET, which applies to every text column."""

    charset: str


Clause = AddColumn | ChangeColumn | RenameColumn | DropColumn | SetKey | ConvertCharset | RemoveRows


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """The columns and the primary key of a CREATE TABLE."""

    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    generated: tuple[str, ...] = ()


_OPTIONS = frozenset(
    ["AUTO_INCREMENT", "COMMENT", "ROW_FORMAT", "KEY_BLOCK_SIZE", "ALGORITHM", "LOCK", "CHECKSUM", "AVG_ROW_LENGTH"]
    + ["MAX_ROWS", "MIN_ROWS", "PACK_KEYS", "DELAY_KEY_WRITE", "STATS_PERSISTENT", "STATS_AUTO_RECALC"]
    + ["STATS_SAMPLE_PAGES", "ENCRYPTION", "COMPRESSION", "PAGE_CHECKSUM", "TRANSACTIONAL", "AUTOEXTEND_SIZE"]
    + ["ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE", "SECONDARY_ENGINE", "TABLESPACE", "STORAGE", "ENCRYPTED"]
    + ["ENCRYPTION_KEY_ID", "PAGE_COMPRESSED", "PAGE_COMPRESSION_LEVEL", "TABLE_CHECKSUM", "PASSWORD"]
)
_ENGINES = frozenset(["INNODB", "MYISAM", "ARIA", "MEMORY", "ROCKSDB"])
_INDEXES = frozenset(["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"])
_KEEP_ROWS = ("ANALYZE", "CHECK", "OPTIMIZE", "REBUILD", "COALESCE", "REORGANIZE")


def parse_alter(sql: str, dialect: SqlDialect) -> list[Clause] | None:
    """The clauses of an ALTER TABLE that change columns or rows, in order; None if one is not supported."""
    words = TokenCursor.of(sql, dialect)
    if not words.take("ALTER"):
        return None
    words.take("ONLINE")  # IGNORE is not supported: it deletes rows
    if not words.take("TABLE"):
        return None
    words.take("IF", "EXISTS")
    _skip_table_name(words)
    if words.take("WAIT"):
        words.next()
    words.take("NOWAIT")
    if any(words.take(verb, "PARTITION") for verb in _KEEP_ROWS):
        return []  # followed by a list of partitions
    try:
        return [clause for part in _clauses_before_layout(words).split() for clause in _parse_clause(part)]
    except UnsupportedSQLError:
        return None


def _clauses_before_layout(words: TokenCursor) -> TokenCursor:
    """The clauses before a final PARTITION BY, REMOVE PARTITIONING or ORDER BY; raises UnsupportedSQLError."""
    clauses = words.take_until("PARTITION", "BY")
    if any(token.text.upper() == "SYSTEM_TIME" for token in words.rest):
        raise UnsupportedSQLError
    if not words.is_left:
        clauses = clauses.take_until("REMOVE", "PARTITIONING")
    kept = clauses.take_until("ORDER", "BY")
    if clauses.take("ORDER", "BY"):
        for part in clauses.split():
            _skip_table_name(part)
            part.take_any("ASC", "DESC")
            if part.is_left:
                raise UnsupportedSQLError
    return kept


def parse_create(sql: str, dialect: SqlDialect) -> TableDefinition | None:
    """The columns of a CREATE TABLE; None if it is not supported or copies columns (LIKE, SELECT).

    START TRANSACTION at the end marks a CREATE TABLE ... SELECT of MySQL, whose rows follow as changes.
    """
    words = TokenCursor.of(sql, dialect)
    if not words.take("CREATE"):
        return None
    words.take("OR", "REPLACE")
    if not words.take("TABLE"):
        return None
    words.take("IF", "NOT", "EXISTS")
    _skip_table_name(words)
    if words.word != "(":
        return None
    try:
        parts = [_parse_create_item(part) for part in words.take_parentheses().split()]
        options = words.take_until("PARTITION", "BY")
        if _selects(words):
            return None
        while options.is_left:
            if options.take("START", "TRANSACTION"):
                continue
            if not _skip_option(options):
                return None
            options.take(",")
    except UnsupportedSQLError:
        return None
    definitions = [part for part in parts if isinstance(part, ColumnDefinition)]
    key = next((part.columns for part in parts if isinstance(part, SetKey)), ())
    key = key or tuple(one.column.name for one in definitions if one.is_key)
    in_key = {name.lower() for name in key}
    columns = (one.column for one in definitions)
    generated = tuple(one.column.name for one in definitions if one.is_generated)
    return TableDefinition(
        tuple(replace(c, nullable=c.nullable and c.name.lower() not in in_key) for c in columns), key, generated
    )


def only_renames(sql: str, dialect: SqlDialect) -> bool:
    """True for a statement that only renames tables."""
    words = TokenCursor.of(sql, dialect)
    return words.word == "RENAME" or (words.word == "ALTER" and len(words.split()) == 1)


def is_conditional(sql: str, dialect: SqlDialect) -> bool:
    """True for CREATE TABLE IF NOT EXISTS, which is logged even if it had no effect."""
    head = TokenCursor.of(sql, dialect).take_until("(")
    head.take_until("IF", "NOT", "EXISTS")
    return head.is_left


def _selects(words: TokenCursor) -> bool:
    """Whether a SELECT follows the partitions, or the partitions are those of MariaDB's system versioning."""
    return any(token.kind == "word" and token.text.upper() in ("SELECT", "AS", "SYSTEM_TIME") for token in words.rest)


def _skip_table_name(words: TokenCursor) -> None:
    words.name()
    if words.take("."):
        words.name()


def _parse_clause(words: TokenCursor) -> list[Clause]:
    """Parse one clause; raises UnsupportedSQLError."""
    if words.take("ADD"):
        return _parse_add(words)
    if words.take("DROP"):
        return _parse_drop(words)
    if words.word in ("CHANGE", "MODIFY"):
        is_change = words.next().text.upper() == "CHANGE"
        words.take("COLUMN")
        if_exists = words.take("IF", "EXISTS")
        old = words.name() if is_change else ""
        definition, position = read_definition(words)
        return [ChangeColumn(old if is_change else definition.column.name, definition, position, if_exists)]
    if words.take("RENAME", "COLUMN"):
        if_exists = words.take("IF", "EXISTS")
        old = words.name()
        if not words.take("TO"):
            raise UnsupportedSQLError
        return [RenameColumn(old, words.name(), if_exists)]
    if words.take("RENAME", "INDEX") or words.take("RENAME", "KEY"):
        return []
    if words.take("CONVERT", "TO"):
        charset = read_charset(words)
        if charset in (None, UNKNOWN_CHARSET, "binary", "default") or words.is_left:
            raise UnsupportedSQLError
        return [ConvertCharset(charset or "")]
    if words.take("ALTER"):
        return _parse_alter_column(words)
    if words.take("DISCARD", "TABLESPACE") or words.take("TRUNCATE", "PARTITION", "ALL"):
        return [RemoveRows()]
    if _skip_no_op(words):
        return []
    while words.is_left:
        if not _skip_option(words):
            raise UnsupportedSQLError
    return []


def _skip_no_op(words: TokenCursor) -> bool:
    """Skip a clause such as ENABLE KEYS, FORCE or SECONDARY_LOAD, which changes neither columns nor rows."""
    return (
        words.take_any("ENABLE", "DISABLE", "FORCE", "SECONDARY_LOAD", "SECONDARY_UNLOAD", "NOWAIT")
        or words.take("WITH", "VALIDATION")
        or words.take("WITHOUT", "VALIDATION")
    )


def _parse_alter_column(words: TokenCursor) -> list[Clause]:
    """ALTER [COLUMN] ... SET or DROP DEFAULT, and ALTER INDEX or CHECK: no effect on existing rows."""
    if words.word in ("INDEX", "KEY", "CHECK", "CONSTRAINT"):
        return []
    words.take("COLUMN")
    words.take("IF", "EXISTS")
    words.name()
    if words.take("SET", "VISIBLE") or words.take("SET", "INVISIBLE"):
        return []
    if words.take("SET", "DEFAULT") or words.take("DROP", "DEFAULT"):
        return []
    raise UnsupportedSQLError


def _parse_add(words: TokenCursor) -> list[Clause]:
    if words.take("CONSTRAINT"):
        words.take("IF", "NOT", "EXISTS")
        if words.word not in (*_INDEXES, "PRIMARY"):
            words.name()
    if words.take("PRIMARY", "KEY"):
        return [SetKey(_key_columns(words))]
    if _is_index(words) or _adds_partitions(words):
        return []
    if words.word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise UnsupportedSQLError
    words.take("COLUMN")
    if_not_exists = words.take("IF", "NOT", "EXISTS")
    if words.word == "(":
        parts = [_parse_create_item(part) for part in words.take_parentheses().split()]
        definitions = [part for part in parts if isinstance(part, ColumnDefinition)]
        keys = [part for part in parts if isinstance(part, SetKey)]
        return [*(AddColumn(one, ColumnPosition(), if_not_exists) for one in definitions), *_keys(definitions), *keys]
    definition, position = read_definition(words)
    return [AddColumn(definition, position, if_not_exists), *_keys([definition])]


def _is_index(words: TokenCursor) -> bool:
    """Whether the next item is an index, a foreign key or a check; `vector` alone may be a column name."""
    return words.word in _INDEXES or words.take("VECTOR", "INDEX") or words.take("VECTOR", "KEY")


def _adds_partitions(words: TokenCursor) -> bool:
    """Whether the clause adds empty partitions; raises UnsupportedSQLError for system versioning."""
    if not words.take("PARTITION"):
        return False
    words.take("IF", "NOT", "EXISTS")
    words.take_any("NO_WRITE_TO_BINLOG", "LOCAL")
    is_versioning = any(token.text.upper() in ("HISTORY", "CURRENT") for token in words.rest)
    if words.word not in ("(", "PARTITIONS") or is_versioning:
        raise UnsupportedSQLError
    return True


def _keys(definitions: list[ColumnDefinition]) -> list[Clause]:
    return [SetKey((one.column.name,)) for one in definitions if one.is_key]


def _parse_drop(words: TokenCursor) -> list[Clause]:
    if words.take("PRIMARY", "KEY"):
        return [SetKey(())]
    if words.word in ("INDEX", "KEY", "FOREIGN", "CHECK", "CONSTRAINT"):
        return []
    if words.word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise UnsupportedSQLError
    words.take("COLUMN")
    if_exists = words.take("IF", "EXISTS")
    name = words.name()
    words.take_any("RESTRICT", "CASCADE")
    if words.is_left:
        raise UnsupportedSQLError
    return [DropColumn(name, if_exists)]


def _parse_create_item(words: TokenCursor) -> ColumnDefinition | SetKey | None:
    """Parse a column or the primary key; None for an index or a check."""
    if words.take("CONSTRAINT") and words.word not in (*_INDEXES, "PRIMARY"):
        words.name()
    if words.take("PRIMARY", "KEY"):
        return SetKey(_key_columns(words))
    if _is_index(words):
        return None
    if words.word == "LIKE" or words.take("PERIOD", "FOR"):
        raise UnsupportedSQLError
    return read_definition(words)[0]


def _key_columns(words: TokenCursor) -> tuple[str, ...]:
    """The columns of a key; skips its name, its type and the sort order."""
    words.take_until("(")
    return tuple(part.name() for part in words.take_parentheses().split())


def _skip_option(words: TokenCursor) -> bool:
    """Skip a table option that changes neither columns nor rows; False for another option."""
    words.take("DEFAULT")
    if words.take_any("ENGINE", "TYPE"):
        words.take("=")
        string = words.string()
        return (words.name() if string is None else string.text).upper() in _ENGINES
    if words.word in ("CHARSET", "CHARACTER", "COLLATE"):
        return read_charset(words) not in (None, "binary")
    if words.take("DATA", "DIRECTORY") or words.take("INDEX", "DIRECTORY") or words.take_any(*_OPTIONS):
        words.take("=")
        return bool(words.next().kind != "sign")
    return False
