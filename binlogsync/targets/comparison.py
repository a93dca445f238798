"""Compares the rows of a table with those of its mirror, by key and hash, in chunks of consecutive keys.

Rows of a table without a key are compared in chunks of hash values, with the number of equal rows.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from binlogsync.schema import TableSchema

_SHOWN = 10


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


class RowComparer(Protocol):
    """Compares two sets of rows that may be larger than memory: each row is its key as text and a hash."""

    @abstractmethod
    def fill(self, keys: int, rows: Iterable[pa.Table]) -> int:
        """Store the rows of the table; returns their number. Columns: k0, k1, ... for that many key columns, and h."""

    @abstractmethod
    def compare(self, mirrored: pa.Table) -> Comparison:
        """Compare the stored rows with those of the mirror, in the same columns; without the schema."""
