"""ALTER TABLE and CREATE TABLE as clauses that say what becomes of columns and rows.

Read strictly: a clause, an attribute or an option that is not known here makes the whole statement unknown (None), so
that nothing is ever understood by half. What changes neither columns nor rows (indexes, checks, comments, engines,
partitions that keep their rows) is no clause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.binlog.sql import SqlDialect, TokenCursor
from binlogsync.mirror.column_definition import ColumnDefinition, ColumnPosition, UnsupportedSQLError, read_definition
from binlogsync.mirror.types import UNKNOWN_CHARSET, read_charset
from binlogsync.schema import Column


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD COLUMN; `if_not_exists` is MariaDB's IF NOT EXISTS."""

    definition: ColumnDefinition
    place: ColumnPosition
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """CHANGE or MODIFY of the column `old`."""

    old: str
    definition: ColumnDefinition
    place: ColumnPosition
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
    """The primary key becomes this; () for none."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveRows:
    """DISCARD TABLESPACE, or TRUNCATE PARTITION ALL: no row is left."""


@dataclass(frozen=True, slots=True)
class ConvertCharset:
    """CONVERT TO CHARACTER SET, of every text column."""

    charset: str


Clause = AddColumn | ChangeColumn | RenameColumn | DropColumn | SetKey | ConvertCharset | RemoveRows


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A CREATE TABLE with a list of columns."""

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
    """The clauses of an ALTER TABLE that touch columns or rows, in order; None when one is not understood."""
    words = TokenCursor.of(sql, dialect)
    if not words.take("ALTER"):
        return None
    words.take("ONLINE")  # not IGNORE, which drops rows
    if not words.take("TABLE"):
        return None
    words.take("IF", "EXISTS")
    _table_name(words)
    if words.take("WAIT"):
        words.next()
    words.take("NOWAIT")
    if any(words.take(verb, "PARTITION") for verb in _KEEP_ROWS):
        return []  # of partitions with commas between them, or into new ones
    try:
        return [clause for part in _without_layout(words).split() for clause in _alter_clause(part)]
    except UnsupportedSQLError:
        return None


def _without_layout(words: TokenCursor) -> TokenCursor:
    """The clauses before those at the end that lay out the rows in another way; raises UnsupportedSQLError."""
    clauses = words.before("PARTITION", "BY")
    if any(token.text.upper() == "SYSTEM_TIME" for token in words.rest):
        raise UnsupportedSQLError
    if not words.is_left:
        clauses = clauses.before("REMOVE", "PARTITIONING")
    kept = clauses.before("ORDER", "BY")
    if clauses.take("ORDER", "BY"):
        for part in clauses.split():
            _table_name(part)
            part.take_any("ASC", "DESC")
            if part.is_left:
                raise UnsupportedSQLError
    return kept


def parse_create(sql: str, dialect: SqlDialect) -> TableDefinition | None:
    """The columns of a CREATE TABLE; None for one that takes them from elsewhere (LIKE, SELECT), or is not understood.

    MySQL's START TRANSACTION at its end is a CREATE TABLE ... SELECT, whose rows follow as changes.
    """
    words = TokenCursor.of(sql, dialect)
    if not words.take("CREATE"):
        return None
    words.take("OR", "REPLACE")
    if not words.take("TABLE"):
        return None
    words.take("IF", "NOT", "EXISTS")
    _table_name(words)
    if words.word != "(":
        return None
    try:
        parts = [_create_part(part) for part in words.inside().split()]
        options = words.before("PARTITION", "BY")
        if _selects(words):
            return None
        while options.is_left:
            if options.take("START", "TRANSACTION"):
                continue
            if not _option(options):
                return None
            options.take(",")
    except UnsupportedSQLError:
        return None
    definitions = [part for part in parts if isinstance(part, ColumnDefinition)]
    key = next((part.columns for part in parts if isinstance(part, SetKey)), ())
    key = key or tuple(one.column.name for one in definitions if one.is_key)
    held = {name.lower() for name in key}
    columns = (one.column for one in definitions)
    generated = tuple(one.column.name for one in definitions if one.is_generated)
    return TableDefinition(
        tuple(replace(c, nullable=c.nullable and c.name.lower() not in held) for c in columns), key, generated
    )


def only_renames(sql: str, dialect: SqlDialect) -> bool:
    """True for a statement that renames tables and does nothing else to them."""
    words = TokenCursor.of(sql, dialect)
    return words.word == "RENAME" or (words.word == "ALTER" and len(words.split()) == 1)


def is_conditional(sql: str, dialect: SqlDialect) -> bool:
    """True for CREATE TABLE IF NOT EXISTS, which is logged even where it did nothing."""
    head = TokenCursor.of(sql, dialect).before("(")
    head.before("IF", "NOT", "EXISTS")
    return head.is_left


def _selects(words: TokenCursor) -> bool:
    """Whether partitions are followed by a SELECT, or are those of MariaDB's history."""
    return any(token.kind == "word" and token.text.upper() in ("SELECT", "AS", "SYSTEM_TIME") for token in words.rest)


def _table_name(words: TokenCursor) -> None:
    words.name()
    if words.take("."):
        words.name()


def _alter_clause(words: TokenCursor) -> list[Clause]:
    """What one clause means; raises UnsupportedSQLError."""
    if words.take("ADD"):
        return _add(words)
    if words.take("DROP"):
        return _drop(words)
    if words.word in ("CHANGE", "MODIFY"):
        is_change = words.next().text.upper() == "CHANGE"
        words.take("COLUMN")
        if_exists = words.take("IF", "EXISTS")
        old = words.name() if is_change else ""
        definition, place = read_definition(words)
        return [ChangeColumn(old if is_change else definition.column.name, definition, place, if_exists)]
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
        return _alter_column(words)
    if words.take("DISCARD", "TABLESPACE") or words.take("TRUNCATE", "PARTITION", "ALL"):
        return [RemoveRows()]
    if _changes_nothing(words):
        return []
    while words.is_left:
        if not _option(words):
            raise UnsupportedSQLError
    return []


def _changes_nothing(words: TokenCursor) -> bool:
    """ENABLE KEYS, FORCE, SECONDARY_LOAD and the like."""
    return (
        words.take_any("ENABLE", "DISABLE", "FORCE", "SECONDARY_LOAD", "SECONDARY_UNLOAD", "NOWAIT")
        or words.take("WITH", "VALIDATION")
        or words.take("WITHOUT", "VALIDATION")
    )


def _alter_column(words: TokenCursor) -> list[Clause]:
    """ALTER [COLUMN] ... SET or DROP DEFAULT, and ALTER INDEX or CHECK: nothing for the rows that are there."""
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


def _add(words: TokenCursor) -> list[Clause]:
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
        parts = [_create_part(part) for part in words.inside().split()]
        definitions = [part for part in parts if isinstance(part, ColumnDefinition)]
        keys = [part for part in parts if isinstance(part, SetKey)]
        return [*(AddColumn(one, ColumnPosition(), if_not_exists) for one in definitions), *_keys(definitions), *keys]
    definition, place = read_definition(words)
    return [AddColumn(definition, place, if_not_exists), *_keys([definition])]


def _is_index(words: TokenCursor) -> bool:
    """Whether an index, a foreign key or a check comes; `vector` alone may name a column."""
    return words.word in _INDEXES or words.take("VECTOR", "INDEX") or words.take("VECTOR", "KEY")


def _adds_partitions(words: TokenCursor) -> bool:
    """Whether empty partitions come, other than those of MariaDB's system versioning."""
    if not words.take("PARTITION"):
        return False
    words.take("IF", "NOT", "EXISTS")
    words.take_any("NO_WRITE_TO_BINLOG", "LOCAL")
    holds_history = any(token.text.upper() in ("HISTORY", "CURRENT") for token in words.rest)
    if words.word not in ("(", "PARTITIONS") or holds_history:
        raise UnsupportedSQLError
    return True


def _keys(definitions: list[ColumnDefinition]) -> list[Clause]:
    return [SetKey((one.column.name,)) for one in definitions if one.is_key]


def _drop(words: TokenCursor) -> list[Clause]:
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


def _create_part(words: TokenCursor) -> ColumnDefinition | SetKey | None:
    """A column, the primary key, or None for an index or a check."""
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
    """The columns of a key, whatever its name, its type and their order."""
    words.before("(")
    return tuple(part.name() for part in words.inside().split())


def _option(words: TokenCursor) -> bool:
    """Step over an option of a table that changes nothing here; False for another."""
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
