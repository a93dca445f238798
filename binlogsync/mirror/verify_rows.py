"""Compares the rows of a table with those of its mirror, by key and hash, in a temporary DuckDB file.

The hash covers the text of all values (verify_text.py), which each side renders separately. Rows are compared in chunks
of consecutive keys; rows of a table without a key in chunks of hash values, with the number of equal rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.mirror.verify_text import hash_texts, server_select, server_texts
from binlogsync.schema import TableSchema
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.snapshot.view import TableSnapshot
from binlogsync.targets.duckdb.file import DuckFile

if TYPE_CHECKING:
    from binlogsync.targets.duckdb.file import DuckDBPyConnection

_SHOWN = 10
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class DifferingChunk:
    """A range of keys with differences.

    Attributes:
        first, last: keys of the range; hashes for a table without a key.
        rows: number of rows of the table in the range.
        missing: rows that are missing in the mirror.
        extra: rows that only the mirror has.
        different: rows with the same key and different values.
        examples: some of the differing keys, with the kind of difference.
    """

    first: tuple[Any, ...]
    last: tuple[Any, ...]
    rows: int
    missing: int
    extra: int
    different: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{_text(self.first)} to {_text(self.last)}: {self.missing} missing, {self.extra} too many, "
            f"{self.different} different of {self.rows} ({', '.join(self.examples)})"
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        there, here: number of rows of the table and of the mirror.
        chunks: number of chunks.
        differing: the chunks that differ.
        schema: of the table.
        keys: the keys that differ, as text, in columns k0, k1, ...; no columns for a table without a key.
    """

    there: int
    here: int
    chunks: int
    differing: tuple[DifferingChunk, ...] = ()
    schema: TableSchema | None = field(default=None, compare=False, repr=False)
    keys: pa.Table = field(default_factory=lambda: pa.table({}), compare=False, repr=False)

    @property
    def is_equal(self) -> bool:
        """True when no chunk differs."""
        return not self.differing

    def __str__(self) -> str:
        text = f"{self.there} rows, the mirror has {self.here}, in {self.chunks} chunk(s)"
        if self.differing:
            text += f", {len(self.differing)} of which differ: " + "; ".join(map(str, self.differing[:_SHOWN]))
        return text


def _text(key: Sequence[Any]) -> str:
    return "/".join(str(part) for part in key)


class RowStore:
    """Stores the rows of a snapshot, then compares them with the fingerprint of a mirror."""

    def __init__(self, folder: Path, chunk_rows: int, examples: int) -> None:
        self._file = DuckFile(folder / "rows.duckdb", error=ConsumeError)
        self._chunk_rows = chunk_rows
        self._examples = examples
        self._schema: TableSchema | None = None

    def fill(self, snapshot: TableSnapshot) -> None:
        """Store all rows, and count them on the server. Raises ConsumeError if the numbers differ."""
        self._schema = schema = snapshot.schema
        if schema is None:
            return
        keys = [[column.name for column in schema.columns].index(name) for name in schema.primary_key]
        names = [*(f"k{i}" for i in range(len(keys))), "h"]
        mariadb, rows = flavor_of(snapshot.server[0]) == ServerFlavor.MARIADB, 0
        with self._file.transaction() as connection:
            connection.execute(f"CREATE TABLE there ({', '.join(f'{name} VARCHAR' for name in names)})")
            selected = snapshot.select(server_select(schema))
            while batch := list(islice(selected, _BATCH)):
                texts = server_texts(schema, batch, mariadb=mariadb)
                arrays = [pa.array(values, pa.string()) for values in (*(texts[i] for i in keys), hash_texts(texts))]
                connection.register("batch", pa.Table.from_arrays(arrays, names=names))
                connection.execute("INSERT INTO there SELECT * FROM batch")
                connection.unregister("batch")
                rows += len(batch)
        counted = int(next(iter(snapshot.select("COUNT(*)")))[0])
        if counted != rows:
            raise ConsumeError(
                f"{schema.name}: the server counts {counted} rows, but the snapshot has {rows}: the comparison would "
                "be incorrect; check for a server setting that limits results"
            )

    def compare(self, mirrored: pa.Table) -> Comparison:
        """Compare the stored rows with the fingerprint of the mirror."""
        assert self._schema is not None
        with self._file.transaction() as connection:
            connection.register("here", mirrored)
            keys = [f"k{i}" for i in range(len(self._schema.primary_key))]
            try:
                return self._compare(connection, keys)
            finally:
                connection.unregister("here")

    def _compare(self, connection: DuckDBPyConnection, keys: Sequence[str]) -> Comparison:
        """Compare in chunks of rows, numbered in the order of the keys."""
        _join_sides(connection, keys)
        rows = connection.execute(self._chunks(keys or ["h"])).fetchall()
        differing = tuple(
            DifferingChunk(tuple(lo), tuple(hi), int(t), int(missing), int(extra), int(different), tuple(examples))
            for lo, hi, t, _, missing, extra, different, examples in rows
            if missing or extra or different
        )
        found = pa.table({})
        if keys and differing:
            names = ", ".join(keys)
            found = connection.sql(
                f"SELECT {names} FROM sides WHERE differs OR t <> m ORDER BY {_order(keys)}"
            ).to_arrow_table()
        there, here = (sum(int(row[i]) for row in rows) for i in (2, 3))
        return Comparison(there, here, len(rows), differing, self._schema, found)

    def _chunks(self, columns: Sequence[str]) -> str:
        """SQL of the chunks: range of keys, counts, and examples of differences."""
        first, last = (f"[{', '.join(f'arg_{kind}({c}, n)::VARCHAR' for c in columns)}]" for kind in ("min", "max"))
        example = " || '/' || ".join(f"{column}::VARCHAR" for column in columns)
        what = "CASE WHEN differs THEN 'differs' WHEN t > m THEN 'missing' ELSE 'too many' END"
        return (
            f"WITH numbered AS (SELECT *, row_number() OVER (ORDER BY {_order(columns)}) - 1 AS n FROM sides), "
            f"chunks AS (SELECT n // {self._chunk_rows} AS c, {first} AS lo, {last} AS hi, sum(t) AS t, sum(m) AS m, "
            "sum(greatest(t - m, 0)) AS missing, sum(greatest(m - t, 0)) AS extra, "
            "count(*) FILTER (differs) AS differing, "
            f"(list({example} || ' ' || {what} ORDER BY n) FILTER (differs OR t <> m))[:{self._examples}] AS examples "
            "FROM numbered GROUP BY ALL) "
            "SELECT lo, hi, t, m, missing, extra, differing, coalesce(examples, []) FROM chunks ORDER BY c"
        )


def _order(columns: Sequence[str]) -> str:
    """SQL of the order of the rows: numbers in numeric order."""
    return ", ".join(f"TRY_CAST({c} AS HUGEINT), {c}" for c in columns)


def _join_sides(connection: DuckDBPyConnection, keys: Sequence[str]) -> None:
    """Join both sides in the table `sides`, with a row for each key or, without a key, for each hash."""
    if keys:
        # A mirror may have duplicate keys: rows are counted per key, and all hashes of a key are compared.
        grouped = "(SELECT {keys}, count(*) AS n, list(h ORDER BY h) AS hs FROM {side} GROUP BY ALL)"
        there, here = (grouped.format(keys=", ".join(keys), side=side) for side in ("there", "here"))
        same = " AND ".join(f"t.{key} IS NOT DISTINCT FROM h.{key}" for key in keys)
        picked = ", ".join(f"coalesce(t.{key}, h.{key}) AS {key}" for key in keys)
        connection.execute(
            f"CREATE TEMP TABLE sides AS SELECT {picked}, coalesce(t.n, 0) AS t, coalesce(h.n, 0) AS m, "
            f"coalesce(t.n = h.n AND t.hs <> h.hs, false) AS differs FROM {there} t FULL JOIN {here} h ON {same}"
        )
    else:
        connection.execute(
            "CREATE TEMP TABLE sides AS SELECT h, sum(t)::BIGINT AS t, sum(m)::BIGINT AS m, false AS differs "
            "FROM (SELECT h, 1 AS t, 0 AS m FROM there UNION ALL SELECT h, 0, 1 FROM here) GROUP BY h"
        )
