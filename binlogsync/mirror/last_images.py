"""Which image of each key is the last one, of many changes, before DuckDB sees any of them. Pure.

Each change has two steps, in the order of time: what it says of its row before is an even one, of its row after the odd
one behind it. A key may occur at many steps, as a row that comes, changes and goes; at the last one is decided what
becomes of it. A key that changes occurs as two keys, and needs nothing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.mirror.row_images import Mask, RowImages, stack

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class LastImages:
    """What was found.

    Attributes:
        keys: every key that occurs, once; a column for each of the primary key's, k0, k1, ...
        is_last: for each step whether it is the last one of its key.
    """

    keys: pa.Table
    is_last: Mask

    def of(self, image: str, first: int, count: int) -> Mask:
        """Which changes have the last image of a key, "before" or "after", among `count` from the change `first` on."""
        mask: Mask = self.is_last[2 * first + (image == "after") : 2 * (first + count) : 2]
        return mask


def find_last_images(key: Sequence[str], parts: Sequence[RowImages]) -> LastImages:
    """Of all changes of the parts, one after the other, in a table with this primary key."""
    chunks: list[list[pa.Array]] = []
    steps: list[Numbers] = []
    first = 0
    for part in parts:
        for image, mask, odd in (("before", _leaving(key, part), 0), ("after", part.are("cur"), 1)):
            at = np.flatnonzero(mask)
            if len(at):
                chunks.append(part.image(image, key, mask))
                steps.append(2 * (first + at) + odd)
        first += len(part.ops)
    keys, step = stack(chunks, [f"k{i}" for i in range(len(key))]), np.concatenate(steps)
    is_last: Mask = np.zeros(2 * first, dtype=np.bool_)
    if _is_rising(keys.columns):
        is_last[step] = True
        return LastImages(keys, is_last)
    codes, count = _codes(keys.columns)
    last: Numbers = np.full(count, -1, dtype=np.int64)
    np.maximum.at(last, codes, step)
    is_last[last] = True
    if count < len(codes):
        some: Numbers = np.empty(count, dtype=np.int64)
        some[codes] = np.arange(len(codes))
        keys = keys.take(pa.array(some))
    return LastImages(keys, is_last)


def _leaving(key: Sequence[str], part: RowImages) -> Mask:
    """Where a row goes, or changes to another key: its old key has the last step then, otherwise the new one behind it
    says the same."""
    mask = part.are("ud")
    if not part.are("u").any():
        return mask
    is_same = part.are("u")
    before, after = (part.image(image, key) for image in ("before", "after"))
    for old, new in zip(before, after, strict=True):
        is_same &= pc.equal(_comparable(old), _comparable(new)).fill_null(False).to_numpy(zero_copy_only=False)
    left: Mask = mask & ~is_same
    return left


def _is_rising(columns: Sequence[pa.ChunkedArray]) -> bool:
    """True for a key of one integer, each larger than the one before, as is usual: then none occurs twice."""
    if len(columns) > 1 or not pa.types.is_integer(columns[0].type):
        return False
    values = columns[0].to_numpy()
    return bool((values[1:] > values[:-1]).all())


def _codes(columns: Sequence[pa.ChunkedArray]) -> tuple[Numbers, int]:
    """A number for each row, from 0 without a gap, equal where all columns are; and how many there are."""
    codes, count = _encoded(columns[0])
    for column in columns[1:]:
        more, size = _encoded(column)
        codes, count = _encoded(pa.chunked_array([pa.array(codes * size + more)]))
    return codes, count


def _encoded(column: pa.ChunkedArray) -> tuple[Numbers, int]:
    found = pc.dictionary_encode(_comparable(column).combine_chunks(), null_encoding="encode")
    return found.indices.to_numpy().astype(np.int64), len(found.dictionary)


def _comparable(values: pa.Array | pa.ChunkedArray) -> Any:
    """The same with values that have a hash in Arrow, equal where DuckDB's are: to it 0.0 is -0.0."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values.cast(pa.string())
    if pa.types.is_list(kind):  # labels of a SET, which hold no comma
        return pc.binary_join(values, ",")
    return pc.add(values, pa.scalar(0, kind)) if pa.types.is_floating(kind) else values
