"""ALTER TABLE and CREATE TABLE as clauses that say what becomes of columns and rows.

Read strictly: a clause, an attribute or an option that is not known here makes the whole statement unknown (None), so
that nothing is ever understood by half. What changes neither columns nor rows (indexes, checks, comments, engines) is
no clause.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.mirror.definitions import Definition, Place, UnknownSQLError, read_definition
from binlogsync.mirror.types import UNKNOWN_CHARSET, Words, read_charset
from binlogsync.schema import Column


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD COLUMN; `unless_there` is MariaDB's IF NOT EXISTS."""

    definition: Definition
    place: Place
    unless_there: bool = False


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """CHANGE or MODIFY of the column `old`."""

    old: str
    definition: Definition
    place: Place
    if_there: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME COLUMN."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP COLUMN."""

    name: str
    if_there: bool = False


@dataclass(frozen=True, slots=True)
class SetKey:
    """The primary key becomes this; () for none."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConvertCharset:
    """CONVERT TO CHARACTER SET, of every text column."""

    charset: str


Clause = AddColumn | ChangeColumn | RenameColumn | DropColumn | SetKey | ConvertCharset


@dataclass(frozen=True, slots=True)
class Created:
    """A CREATE TABLE with a list of columns."""

    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    generated: tuple[str, ...] = ()


_OPTIONS = frozenset(
    ["AUTO_INCREMENT", "COMMENT", "ROW_FORMAT", "KEY_BLOCK_SIZE", "ALGORITHM", "LOCK", "CHECKSUM", "AVG_ROW_LENGTH"]
    + ["MAX_ROWS", "MIN_ROWS", "PACK_KEYS", "DELAY_KEY_WRITE", "STATS_PERSISTENT", "STATS_AUTO_RECALC"]
    + ["STATS_SAMPLE_PAGES", "ENCRYPTION", "COMPRESSION", "PAGE_CHECKSUM", "TRANSACTIONAL"]
)
_ENGINES = frozenset(["INNODB", "MYISAM", "ARIA", "MEMORY", "ROCKSDB"])
_INDEXES = frozenset(["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"])


def parse_alter(sql: str, *, mariadb: bool) -> list[Clause] | None:
    """The clauses of an ALTER TABLE that touch columns or rows, in order; None when one is not understood."""
    words = _words(sql)
    if words is None or not words.take("ALTER"):
        return None
    words.take("ONLINE")  # not IGNORE, which drops rows
    if not words.take("TABLE"):
        return None
    words.take("IF", "EXISTS")
    _table_name(words)
    if words.take("WAIT"):
        words.next()
    words.take("NOWAIT")
    try:
        return [clause for part in words.split() for clause in _alter_clause(part, mariadb)]
    except UnknownSQLError:
        return None


def parse_create(sql: str, *, mariadb: bool) -> Created | None:
    """The columns of a CREATE TABLE; None for one that takes them from elsewhere (LIKE, SELECT), or is not understood.

    MySQL's START TRANSACTION at its end is a CREATE TABLE ... SELECT, whose rows follow as changes.
    """
    words = _words(sql)
    if words is None or not words.take("CREATE"):
        return None
    words.take("OR", "REPLACE")
    if not words.take("TABLE"):
        return None
    words.take("IF", "NOT", "EXISTS")
    _table_name(words)
    if words.token != "(":
        return None
    try:
        parts = [_create_part(part, mariadb) for part in words.inside().split()]
        while words.token:
            if words.take("START", "TRANSACTION"):
                continue
            if not _option(words) or words.word in ("SELECT", "AS", "PARTITION"):
                return None
            words.take(",")
    except UnknownSQLError:
        return None
    definitions = [part for part in parts if isinstance(part, Definition)]
    key = next((part.columns for part in parts if isinstance(part, SetKey)), ())
    key = key or tuple(one.column.name for one in definitions if one.is_key)
    held = {name.lower() for name in key}
    columns = (one.column for one in definitions)
    generated = tuple(one.column.name for one in definitions if one.is_generated)
    return Created(
        tuple(replace(c, nullable=c.nullable and c.name.lower() not in held) for c in columns), key, generated
    )


def _words(sql: str) -> Words | None:
    """The tokens; None where comments are executed by some servers and not by others."""
    return None if "/*!" in sql or "/*M!" in sql else Words.of(sql)


def _table_name(words: Words) -> None:
    words.name()
    if words.take("."):
        words.name()


def _alter_clause(words: Words, mariadb: bool) -> list[Clause]:
    """What one clause means; raises UnknownSQLError."""
    if words.take("ADD"):
        return _add(words, mariadb)
    if words.take("DROP"):
        return _drop(words)
    if words.word in ("CHANGE", "MODIFY"):
        is_change = words.next().upper() == "CHANGE"
        words.take("COLUMN")
        if_there = words.take("IF", "EXISTS")
        old = words.name() if is_change else words.token
        definition, place = read_definition(words, mariadb)
        return [ChangeColumn(old if is_change else definition.column.name, definition, place, if_there)]
    if words.take("RENAME", "COLUMN"):
        old = words.name()
        if not words.take("TO"):
            raise UnknownSQLError
        return [RenameColumn(old, words.name())]
    if words.take("RENAME", "INDEX") or words.take("RENAME", "KEY"):
        return []
    if words.take("CONVERT", "TO"):
        charset = read_charset(words)
        if charset in (None, UNKNOWN_CHARSET, "binary", "default") or words.token:
            raise UnknownSQLError
        return [ConvertCharset(charset or "")]
    if words.take("ALTER"):
        return _alter_column(words)
    if words.word in ("ENABLE", "DISABLE") or words.take("FORCE"):
        return []
    while words.token:
        if not _option(words):
            raise UnknownSQLError
    return []


def _alter_column(words: Words) -> list[Clause]:
    """ALTER [COLUMN] ... SET or DROP DEFAULT, and ALTER INDEX or CHECK: nothing for the rows that are there."""
    if words.word in ("INDEX", "CHECK", "CONSTRAINT"):
        return []
    words.take("COLUMN")
    words.name()
    if words.take("SET", "VISIBLE") or words.take("SET", "INVISIBLE"):
        return []
    if words.take("SET", "DEFAULT") or words.take("DROP", "DEFAULT"):
        return []
    raise UnknownSQLError


def _add(words: Words, mariadb: bool) -> list[Clause]:
    if words.take("CONSTRAINT") and words.word not in (*_INDEXES, "PRIMARY"):
        words.name()
    if words.take("PRIMARY", "KEY"):
        return [SetKey(_key_columns(words))]
    if words.word in _INDEXES and words.word != "CHECK":
        return []
    if words.word == "CHECK":
        return []
    if words.word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise UnknownSQLError
    words.take("COLUMN")
    unless_there = words.take("IF", "NOT", "EXISTS")
    if words.token == "(":
        definitions = [read_definition(part, mariadb) for part in words.inside().split()]
        return [AddColumn(definition, place, unless_there) for definition, place in definitions] + _keys(
            [definition for definition, _ in definitions]
        )
    definition, place = read_definition(words, mariadb)
    return [AddColumn(definition, place, unless_there), *_keys([definition])]


def _keys(definitions: list[Definition]) -> list[Clause]:
    return [SetKey((one.column.name,)) for one in definitions if one.is_key]


def _drop(words: Words) -> list[Clause]:
    if words.take("PRIMARY", "KEY"):
        return [SetKey(())]
    if words.word in ("INDEX", "KEY", "FOREIGN", "CHECK", "CONSTRAINT"):
        return []
    if words.word in ("PARTITION", "PERIOD", "SYSTEM"):
        raise UnknownSQLError
    words.take("COLUMN")
    if_there = words.take("IF", "EXISTS")
    name = words.name()
    if words.word in ("RESTRICT", "CASCADE"):
        words.next()
    if words.token:
        raise UnknownSQLError
    return [DropColumn(name, if_there)]


def _create_part(words: Words, mariadb: bool) -> Definition | SetKey | None:
    """A column, the primary key, or None for an index or a check."""
    if words.take("CONSTRAINT") and words.word not in (*_INDEXES, "PRIMARY"):
        words.name()
    if words.take("PRIMARY", "KEY"):
        return SetKey(_key_columns(words))
    if words.word in _INDEXES:
        return None
    if words.word in ("PERIOD", "LIKE"):
        raise UnknownSQLError
    return read_definition(words, mariadb)[0]


def _key_columns(words: Words) -> tuple[str, ...]:
    """The columns of a key, whatever its name, its type and their order."""
    while words.token and words.token != "(":
        words.next()
    return tuple(part.name() for part in words.inside().split())


def _option(words: Words) -> bool:
    """Step over an option of a table that changes nothing here; False for another."""
    words.take("DEFAULT")
    if words.take("ENGINE") or words.take("TYPE"):
        words.take("=")
        return words.name().upper() in _ENGINES
    if words.word in ("CHARSET", "CHARACTER", "COLLATE"):
        return read_charset(words) not in (None, "binary")
    if words.word in _OPTIONS:
        words.next()
        words.take("=")
        words.next()
        return True
    return False
