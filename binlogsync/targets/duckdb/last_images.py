"""Finds the last image of each key among many changes, before they are passed to DuckDB. Pure.

Each change has two steps: its before image is an even step, its after image the following odd step. A key can occur at
many steps, when its row is inserted, updated and deleted; the image at its last step is the result. A change of the key
itself occurs as two keys, so it needs no special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.targets.duckdb.row_images import Mask, RowImages, stack

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class LastImages:
    """The keys of many changes, and the steps of their last images.

    Attributes:
        keys: every key that occurs, once, in the columns k0, k1, ...
        is_last: for each step, whether it is the last one of its key.
    """

    keys: pa.Table
    is_last: Mask

    def mask(self, image: str, first: int, count: int) -> Mask:
        """True for the changes, `count` from `first` on, whose "before" or "after" image is the last of its key."""
        mask: Mask = self.is_last[2 * first + (image == "after") : 2 * (first + count) : 2]
        return mask


def find_last_images(key: Sequence[str], parts: Sequence[RowImages]) -> LastImages:
    """The last images of all changes of the parts, in order, in a table with this primary key."""
    chunks: list[list[pa.Array]] = []
    steps: list[Numbers] = []
    first = 0
    for part in parts:
        for image, mask, odd in (("before", select_before(key, part), 0), ("after", part.mask("cur"), 1)):
            at = np.flatnonzero(mask)
            if len(at):
                chunks.append(part.image(image, key, mask))
                steps.append(2 * (first + at) + odd)
        first += len(part.ops)
    keys, step = stack(chunks, [f"k{i}" for i in range(len(key))]), np.concatenate(steps)
    is_last: Mask = np.zeros(2 * first, dtype=np.bool_)
    if _is_ascending(keys.columns):
        is_last[step] = True
        return LastImages(keys, is_last)
    codes, count = find_codes(keys.columns)
    last: Numbers = np.full(count, -1, dtype=np.int64)
    np.maximum.at(last, codes, step)
    is_last[last] = True
    if count < len(codes):
        some: Numbers = np.empty(count, dtype=np.int64)
        some[codes] = np.arange(len(codes))
        keys = keys.take(pa.array(some))
    return LastImages(keys, is_last)


def select_before(key: Sequence[str], part: RowImages) -> Mask:
    """True for deletes, and for updates that change the key; of other updates the after image has the same key."""
    mask = part.mask("ud")
    if not part.mask("u").any():
        return mask
    is_same = part.mask("u")
    before, after = (part.image(image, key) for image in ("before", "after"))
    for old, new in zip(before, after, strict=True):
        is_same &= pc.equal(_comparable(old), _comparable(new)).fill_null(False).to_numpy(zero_copy_only=False)
    left: Mask = mask & ~is_same
    return left


def _is_ascending(columns: Sequence[pa.ChunkedArray]) -> bool:
    """True for a single integer key in ascending order, the usual case: then no key occurs twice."""
    if len(columns) > 1 or not pa.types.is_integer(columns[0].type):
        return False
    values = columns[0].to_numpy()
    return bool((values[1:] > values[:-1]).all())


def find_codes(columns: Sequence[pa.ChunkedArray]) -> tuple[Numbers, int]:
    """(a number for each row, equal for equal rows, from 0 without gaps; how many different numbers there are)."""
    codes, count = _encoded(columns[0])
    for column in columns[1:]:
        more, size = _encoded(column)
        codes, count = _encoded(pa.chunked_array([pa.array(codes * size + more)]))
    return codes, count


def _encoded(column: pa.ChunkedArray) -> tuple[Numbers, int]:
    found = pc.dictionary_encode(_comparable(column).combine_chunks(), null_encoding="encode")
    return found.indices.to_numpy().astype(np.int64), len(found.dictionary)


def _comparable(values: pa.Array | pa.ChunkedArray) -> Any:
    """The values in a type that Arrow can hash, equal where DuckDB compares them as equal (0.0 and -0.0)."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values.cast(pa.string())
    if pa.types.is_list(kind):  # labels of a SET, which contain no comma
        return pc.binary_join(values, ",")
    return pc.add(values, pa.scalar(0, kind)) if pa.types.is_floating(kind) else values
