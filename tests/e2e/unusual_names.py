"""Legal names of MySQL with a special meaning elsewhere, for databases, tables, columns, indexes and labels."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from binlogsync.targets.duckdb.file import META_SCHEMA

LONGEST = 64
DATABASES = [
    "warehouse",
    "main",
    "temp",
    "system",
    "pg_catalog",
    "binlogsync",
    "replay_shop",
    "shop",
    "Shop",
    "..",
    ".",
]
DATABASES += ["a.b", "a/b", "%2E", "cdc", "_checkpoint", META_SCHEMA[:LONGEST], "größe", "GRÖßE", "\u3042" * 40, "x y"]
TABLES = [
    "orders",
    "Orders",
    "orders__history",
    "orders__reading",
    "orders__rebuilt",
    "orders__2",
    "mirrors",
    "t.t",
    "*",
]
TABLES += [
    "binlogsync_net",
    "binlogsync_changes",
    "binlogsync_ended",
    ">",
    "a*b",
    "$JS",
    "_checkpoint",
    "..",
    "/etc",
    "a\\b",
]
TABLES += [
    "select",
    "part-00001.parquet",
    "_manifest.json",
    "'q\"`q",
    "\u00e9",
    "e\u0301",
    "\u00c9",
    "\u3042" * 50,
    "%",
    "\x01\t\n",
]
COLUMNS = [
    "rowid",
    "RowId",
    "file_row_number",
    "filename",
    "valid_from",
    "_valid_from",
    "deleted_at",
    "step",
    "ref",
    "before",
]
COLUMNS += [
    "after",
    "op",
    "seq",
    "source",
    "impossible.before.x",
    "cdc.schema",
    "k0",
    "c0",
    "h",
    "t",
    "s",
    "n",
    "delta",
    "gone",
]
COLUMNS += [
    "last",
    "group",
    "order",
    "a.b",
    "a`b",
    'a"b',
    "a'b",
    "a\\b",
    "{x}",
    "$.x",
    "%s",
    "%(x)s",
    "?",
    "\x01",
    "a\nb",
    "a\tb",
]
COLUMNS += [
    "\u3042" * LONGEST,
    "\ud7ff",
    "\ufffe",
    "\u200b",
    "\u202e",
    "\u2028",
    "_",
    "__",
    "-- x",
    "/* x",
    "*",
    "*/",
    "0",
    "1e5",
]
LABELS = ["", "a", "a,b" * 5, "it's", 'q"q', "\\", "\u3042" * LONGEST, "\x01", "\U0001f600", "null", "0", " x", "`"]
# A surrogate is no letter, 0 ends a name, and servers take no blank at the end. U+FFFD makes a mirror read its table.
_LETTERS = st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\ufffd")


@dataclass(frozen=True, slots=True)
class NamedTable:
    """A table to create: columns key, value, label and one that is added later; an index, ENUM labels; keyed or not."""

    database: str
    table: str
    columns: tuple[str, str, str, str]
    index: str
    labels: tuple[str, ...]
    has_key: bool

    @property
    def name(self) -> tuple[str, str]:
        """(database, table)."""
        return self.database, self.table


def names(known: list[str]) -> st.SearchStrategy[str]:
    """One of these names, or a random one."""
    drawn = st.text(_LETTERS, min_size=1, max_size=LONGEST).filter(lambda name: not name[-1].isspace())
    return st.one_of(st.sampled_from(known), st.sampled_from(known), drawn)


def tables() -> st.SearchStrategy[NamedTable]:
    """A table with distinct column names."""
    columns = st.lists(names(COLUMNS), min_size=4, max_size=4, unique_by=str.casefold).map(tuple)
    labels = st.lists(st.sampled_from(LABELS), min_size=2, max_size=4, unique=True).map(tuple)
    return st.builds(NamedTable, names(DATABASES), names(TABLES), columns, names(COLUMNS), labels, st.booleans())
