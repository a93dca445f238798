"""The options of a mirror, and what its target stores of them with the state.

`mirror`, `mirrors`, the component and `binlogsync mirror` all build `MirrorOptions` from the same names
(`MirrorKeywords`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal, TypedDict, get_args

import msgspec

from binlogsync.errors import ConfigError, ConsumeError
from binlogsync.position import Checkpoint
from binlogsync.schema import GEOMETRY_TYPES, TableSchema
from binlogsync.targets.target_names import DATABASE, TABLE, check_pattern, fill_pattern

OnDrop = Literal["drop", "keep", "archive"]
SchemaContract = Literal["follow", "freeze"]
METADATA_COLUMNS = ("_op", "_commit_ts", "_gtid")
"""Columns that `metadata` adds on request: the operation, commit time and GTID of the last change of the row."""
ROW_ID = "rowid"
"""DuckDB's pseudo column with the number of a row, unless a table has a column of this name."""
_NO_KEY_TYPES = frozenset({"json", "vector", *GEOMETRY_TYPES})


class MirrorKeywords(TypedDict, total=False):
    """The arguments of `MirrorOptions.of`; the fields of MirrorOptions describe them."""

    deleted_at: str | None
    history: bool
    on_drop: OnDrop
    key: str | Sequence[str]
    target_schema: str
    target_table: str
    metadata: str | Sequence[str]
    schema_contract: SchemaContract


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How a table is mirrored.

    Attributes:
        deleted_at: soft deletes: name of an extra column. A row that MySQL deletes stays, with the commit time in this
            column. None: rows are deleted.
        history: True stores every version of every row in the table `<table>__history` (targets/duckdb/history.py).
        on_drop: what DROP TABLE of the source (or a rename, or DROP DATABASE) does to the mirror's table: "drop" drops
            it; "keep" keeps it with its rows until the source has a table of that name again, and archives it then;
            "archive" renames it to `<table>__dropped_<microseconds since 1970 UTC>`. With `deleted_at`, "drop" archives
            too, because the deleted rows are kept.
        key: columns that identify a row, for a table without a primary key, or instead of it. Their values must be
            unique, and not NULL.
        target_schema, target_table: patterns of the names in the target, with {source}, {database} and {table}.
        metadata: extra columns about the last change of each row, of METADATA_COLUMNS.
        schema_contract: "follow" applies every DDL statement; "freeze" blocks the mirror before a statement that
            changes its columns, until the columns are accepted (mirror/contract.py).
        location: (schema, table) in the target, which `for_table` fills in; None for the names in MySQL.
    """

    deleted_at: str | None = None
    history: bool = False
    on_drop: OnDrop = "drop"
    key: tuple[str, ...] = ()
    target_schema: str = DATABASE
    target_table: str = TABLE
    metadata: tuple[str, ...] = ()
    schema_contract: SchemaContract = "follow"
    location: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError for a value that no mirror can have."""
        if self.deleted_at is not None and (not self.deleted_at or self.deleted_at.lower() == ROW_ID):
            raise ConfigError(
                f"deleted_at={self.deleted_at!r} is not a valid column name in DuckDB; choose another name"
            )
        for name, value, known in (
            ("on_drop", self.on_drop, get_args(OnDrop)),
            ("schema_contract", self.schema_contract, get_args(SchemaContract)),
        ):
            if value not in known:
                raise ConfigError(f"{name}={value!r} is unknown; write one of {', '.join(known)}")
        if unknown := [name for name in self.metadata if name not in METADATA_COLUMNS]:
            raise ConfigError(
                f"metadata column {unknown[0]!r} is unknown; the metadata columns are {', '.join(METADATA_COLUMNS)}"
            )
        if self.deleted_at is not None and self.deleted_at.lower() in self.metadata:
            raise ConfigError(f"deleted_at={self.deleted_at!r} is also a metadata column; give it another name")
        if not all(self.key) or len({name.lower() for name in self.key}) != len(self.key):
            raise ConfigError(f"key={self.key!r} has an empty name, or a column twice; list each column once")
        check_pattern("target_schema", self.target_schema)
        check_pattern("target_table", self.target_table)

    @classmethod
    def of(cls, **keywords: object) -> MirrorOptions:
        """The options of MirrorKeywords; a text is one name. Raises ConfigError."""
        given = dict(keywords)
        for name in ("key", "metadata"):
            value = given.get(name, ())
            names = (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]
            given[name] = tuple(dict.fromkeys(names)) if name == "metadata" else names
        return cls(**given)  # type: ignore[arg-type]

    @property
    def keeps_only_rows(self) -> bool:
        """True when the target has the current rows only, so that a TRUNCATE leaves nothing of the rows before it."""
        return self.deleted_at is None and not self.history

    @property
    def has_target_names(self) -> bool:
        """Whether the names in the target follow a pattern."""
        return (self.target_schema, self.target_table) != (DATABASE, TABLE)

    def for_table(self, source: str, database: str, table: str) -> MirrorOptions:
        """The options with the location of the mirror of this table. Raises ConfigError for an empty name."""
        if not self.has_target_names:
            return self
        names = {"source": source, "database": database, "table": table}
        return replace(
            self,
            location=(
                fill_pattern("target_schema", self.target_schema, names),
                fill_pattern("target_table", self.target_table, names),
            ),
        )

    def check_columns(self, table: str, columns: Sequence[str]) -> None:
        """Raise ConfigError if the mirror of a table with these columns cannot have these options."""
        names = {name.lower() for name in columns}
        if missing := [name for name in self.key if name.lower() not in names]:
            raise ConfigError(describe_missing_key(table, missing, columns))
        for name in (*self.metadata, *([] if self.deleted_at is None else [self.deleted_at])):
            if name.lower() in names:
                raise ConfigError(describe_taken_name(table, name))


DEFAULT_OPTIONS = MirrorOptions()
OPTION_NAMES = tuple(each.name for each in fields(MirrorOptions) if each.name != "location")
"""The names of MirrorKeywords."""


@dataclass(frozen=True, slots=True)
class MirrorPolicies:
    """The options of a mirror that its target stores with its state, as one JSON text, and what they have led to.

    Attributes:
        on_drop, key, metadata: those of the options; the key that the mirror's table has now.
        is_placed: whether target_schema and target_table have named the mirror's table.
        kept_us: commit time of the DROP after which the table was kept; None if the mirror's table is not a kept one.
        contract: the columns that are frozen; None if the mirror follows every statement.
        accepted: ids of columns that were accepted in place of the frozen ones (mirror/contract.py).
        repeats_until: a mirror with `key` was rewound: changes up to this checkpoint may be in the table already.
    """

    on_drop: OnDrop = "drop"
    key: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    is_placed: bool = False
    kept_us: int | None = None
    contract: str | None = None
    accepted: tuple[str, ...] = ()
    repeats_until: str | None = None

    @property
    def frozen_schema(self) -> TableSchema | None:
        """The frozen columns."""
        return None if self.contract is None else TableSchema.from_json(self.contract)

    @property
    def checks_key(self) -> bool:
        """Whether each change must give its row a key that no other row has; not while changes may be repeated."""
        return bool(self.key) and self.repeats_until is None

    @property
    def repeated(self) -> Checkpoint | None:
        """`repeats_until` as a checkpoint."""
        return None if self.repeats_until is None else Checkpoint.from_text(self.repeats_until)

    def to_json(self) -> str | None:
        """The JSON text; None if all values are the defaults."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: value for name, value in values.items() if value != getattr(NO_POLICIES, name)}
        return msgspec.json.encode(changed).decode() if changed else None

    @classmethod
    def from_json(cls, text: str | None) -> MirrorPolicies:
        """Read what to_json wrote; earlier versions wrote one id as `accepted`."""
        values = {} if text is None else msgspec.json.decode(text)
        if isinstance(values.get("accepted"), str):
            values["accepted"] = [values["accepted"]]
        return msgspec.convert(values, cls)


NO_POLICIES = MirrorPolicies()


def describe_missing_key(table: str, missing: Sequence[str], columns: Sequence[str]) -> str:
    """The error about key columns that a table does not have."""
    return (
        f"{table}: the table has no column {', '.join(missing)}, which the `key` of its mirror names; correct `key` "
        f"(columns: {', '.join(columns)})"
    )


def describe_taken_name(table: str, name: str) -> str:
    """The error about a column of the source with the name of a column that the mirror adds."""
    advice = (
        f"remove {name} from `metadata`" if name in METADATA_COLUMNS else "give the mirror's deleted_at another name"
    )
    return f"{table} already has a column {name}; {advice}"


def with_key(schema: TableSchema, key: tuple[str, ...]) -> TableSchema:
    """The schema with these columns as its primary key; unchanged for (). Raises ConsumeError; names ignore case."""
    return _with_key(schema, key) if key else schema  # for a batch of most mirrors, without a hash of the schema


@lru_cache(maxsize=1000)
def _with_key(schema: TableSchema, key: tuple[str, ...]) -> TableSchema:
    columns = {column.name.lower(): column for column in schema.columns}
    if missing := [name for name in key if name.lower() not in columns]:
        raise ConsumeError(describe_missing_key(schema.name, missing, [column.name for column in schema.columns]))
    for name in key:
        if (column := columns[name.lower()]).type in _NO_KEY_TYPES:
            raise ConsumeError(
                f"{schema.name}: column {column.name} ({column.declaration}) cannot be in the `key` of a mirror; "
                "choose columns of other types"
            )
    return replace(schema, primary_key=tuple(columns[name.lower()].name for name in key))
