"""Compares the keys and hashes of rows (targets/comparison.py) in a temporary DuckDB file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.targets.comparison import Comparison, DifferingChunk, RowComparer
from binlogsync.targets.duckdb.file import DuckFile

if TYPE_CHECKING:
    from binlogsync.targets.duckdb.file import DuckDBPyConnection


class DuckRowComparer(RowComparer):
    """A RowComparer with its file in `folder`; the other arguments are those of VerifyOptions."""

    def __init__(self, folder: Path, chunk_rows: int, examples: int) -> None:
        self._file = DuckFile(folder / "rows.duckdb", error=ConsumeError)
        self._chunk_rows = chunk_rows
        self._examples = examples
        self._keys: list[str] = []

    def fill(self, keys: int, rows: Iterable[pa.Table]) -> int:
        """See RowComparer."""
        self._keys = [f"k{i}" for i in range(keys)]
        count = 0
        with self._file.transaction() as connection:
            connection.execute(f"CREATE TABLE there ({', '.join(f'{name} VARCHAR' for name in (*self._keys, 'h'))})")
            for batch in rows:
                connection.register("batch", batch)
                connection.execute("INSERT INTO there SELECT * FROM batch")
                connection.unregister("batch")
                count += batch.num_rows
        return count

    def compare(self, mirrored: pa.Table) -> Comparison:
        """See RowComparer."""
        with self._file.transaction() as connection:
            connection.register("here", mirrored)
            try:
                return self._compare(connection, self._keys)
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
        return Comparison(there, here, len(rows), differing, keys=found)

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
