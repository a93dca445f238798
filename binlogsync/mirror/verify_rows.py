"""Compares the rows of a snapshot with those of a mirror, by key and hash (targets/comparison.py).

The hash covers the text of all values (verify_text.py), which each side renders separately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pyarrow as pa

from binlogsync.errors import ConsumeError
from binlogsync.mirror.verify_text import hash_texts, server_select, server_texts
from binlogsync.schema import TableSchema
from binlogsync.server_version import ServerFlavor, flavor_of
from binlogsync.snapshot.view import TableSnapshot
from binlogsync.targets.comparison import Comparison, RowComparer

_BATCH = 20_000


class RowStore:
    """Stores the rows of a snapshot, then compares them with the fingerprint of a mirror."""

    def __init__(self, comparer: RowComparer) -> None:
        self._comparer = comparer
        self._schema: TableSchema | None = None

    def fill(self, snapshot: TableSnapshot) -> None:
        """Store all rows, and count them on the server. Raises ConsumeError if the numbers differ."""
        self._schema = schema = snapshot.schema
        if schema is None:
            return
        rows = self._comparer.fill(len(schema.primary_key), _hashed_rows(snapshot, schema))
        counted = int(next(iter(snapshot.select("COUNT(*)")))[0])
        if counted != rows:
            raise ConsumeError(
                f"{schema.name}: the server counts {counted} rows, but the snapshot has {rows}: the comparison would "
                "be incorrect; check for a server setting that limits results"
            )

    def compare(self, mirrored: pa.Table) -> Comparison:
        """Compare the stored rows with the fingerprint of the mirror."""
        assert self._schema is not None
        return replace(self._comparer.compare(mirrored), schema=self._schema)


def _hashed_rows(snapshot: TableSnapshot, schema: TableSchema) -> Iterator[pa.Table]:
    """The keys as text (k0, k1, ...) and the hash (h) of each row, some thousand rows at a time."""
    keys = [[column.name for column in schema.columns].index(name) for name in schema.primary_key]
    names = [*(f"k{i}" for i in range(len(keys))), "h"]
    mariadb = flavor_of(snapshot.server[0]) == ServerFlavor.MARIADB
    selected = snapshot.select(server_select(schema))
    while batch := list(islice(selected, _BATCH)):
        texts = server_texts(schema, batch, mariadb=mariadb)
        arrays = [pa.array(values, pa.string()) for values in (*(texts[i] for i in keys), hash_texts(texts))]
        yield pa.Table.from_arrays(arrays, names=names)
