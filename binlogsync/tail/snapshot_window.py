"""A window of an incremental snapshot: a chunk of rows, and which of them a change in the stream has overtaken.

A window opens at a checkpoint of the stream, `low`, and its chunk is read after that: it shows every change before
`low`, and perhaps later ones. From `low` until a row of the chunk is published, the key of each change of the table is
noted, before and after the change. A row whose key was noted is left out: its change is in the stream already, or
follows. The others are rows that no change has touched between `low` and the position at which they are published.

Keys are compared by the values of their columns, not by the collation. Each version of a row that a chunk can show, and
that differs from the one at the moment it is published, was made or replaced by a change in the window, whose images
have exactly its values. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from binlogsync.change import ImageName
from binlogsync.change_batch import ChangeBatch
from binlogsync.position import Checkpoint
from binlogsync.values import python_values

Key: TypeAlias = tuple[Any, ...]
_PIECE = 1_000
"""Arrow makes Python values of so many rows at a time: meanwhile no other thread runs."""


class UnknownKeyError(Exception):
    """An image has not all columns of the key."""


@dataclass(frozen=True, slots=True)
class KeyedChunk:
    """Rows of a table in the order of its key.

    Attributes:
        batches: the rows.
        rows: key of each row -> its number in the chunk.
        last_key: the key to continue after, as SQL literals.
        is_last: True when the table has no rows after these.
        last_key_of: returns the key of the last row of a batch, as SQL literals.
        high: no later change can be in the rows.
    """

    batches: Sequence[ChangeBatch]
    rows: dict[Key, int]
    last_key: tuple[str, ...]
    last_key_of: Callable[[ChangeBatch], tuple[str, ...]]
    is_last: bool
    high: Checkpoint


class Window:
    """See the module.

    Attributes:
        chunk: the rows, once they are read.
    """

    def __init__(self) -> None:
        self.chunk: KeyedChunk | None = None
        self._touched: set[Key] = set()
        self._overtaken = np.zeros(0, np.bool_)
        self._batch = 0
        self._at = 0  # row in that batch
        self._base = 0  # number of that batch's first row

    def touch(self, keys: Iterable[Key]) -> None:
        """Note the keys of changes in the stream."""
        if self.chunk is None:
            self._touched.update(keys)
            return
        rows = self.chunk.rows
        for key in keys:
            if (row := rows.get(key)) is not None:
                self._overtaken[row] = True

    def fill(self, chunk: KeyedChunk) -> None:
        """The chunk was read."""
        self.chunk = chunk
        self._overtaken = np.zeros(len(chunk.rows), np.bool_)
        touched, self._touched = self._touched, set()
        self.touch(touched)

    @property
    def noted(self) -> int:
        """Number of keys that were noted while the chunk is read."""
        return len(self._touched)

    @property
    def is_over(self) -> bool:
        """True when all rows have been taken."""
        return self.chunk is not None and self._batch == len(self.chunk.batches)

    def take(self, count: int, size: int) -> tuple[ChangeBatch, ChangeBatch]:
        """The next rows, up to `count` and about `size` bytes, and those of them that are to be published."""
        assert self.chunk is not None
        batch = self.chunk.batches[self._batch]
        fitting = max(1, size * len(batch) // max(1, batch.nbytes))
        start, stop = self._at, min(len(batch), self._at + min(count, fitting))
        overtaken = self._overtaken[self._base + start : self._base + stop]
        rows = batch.slice(start, stop)
        self._at = stop
        if stop == len(batch):
            self._batch, self._at, self._base = self._batch + 1, 0, self._base + len(batch)
        return rows, rows.select(pa.array(~overtaken)) if overtaken.any() else rows


def number_rows(batches: Sequence[ChangeBatch], names: Sequence[str]) -> dict[Key, int]:
    """Key of each row -> its number. Raises UnknownKeyError, also when two rows have one key."""
    found: dict[Key, int] = {}
    count = 0
    for batch in batches:
        for start in range(0, len(batch), _PIECE):
            keys = image_keys(batch.slice(start, min(len(batch), start + _PIECE)), "after", names)
            found.update((key, count + number) for number, key in enumerate(keys) if key is not None)
            count += len(keys)
    if len(found) != count:
        raise UnknownKeyError("two rows have one key")
    return found


def changed_keys(batch: ChangeBatch, names: Sequence[str]) -> Iterator[Key]:
    """The keys of the rows before and after each change. Raises UnknownKeyError."""
    before = image_keys(batch, "before", names)
    yield from (key for key in before if key is not None)
    if batch.data.column("after").null_count < len(batch):
        yield from (key for key in _keys_after(batch, before, names) if key is not None)


def _keys_after(batch: ChangeBatch, before: Sequence[Key | None], names: Sequence[str]) -> Iterator[Key | None]:
    """A partial image of an update does not have the columns that it did not change."""
    struct = batch.data.column("after")
    there = [name for name in names if struct.type.get_field_index(name) >= 0]
    if len(there) == len(names):
        yield from image_keys(batch, "after", names)
        return
    for old, new, is_there in zip(
        before, image_keys(batch, "after", there), struct.is_valid().to_pylist(), strict=True
    ):
        if not is_there:
            continue
        if old is None:
            raise UnknownKeyError
        changed = dict(zip(there, new or (), strict=False))
        yield tuple(changed.get(name, value) for name, value in zip(names, old, strict=True))


def missing_columns(batch: ChangeBatch, names: Sequence[str]) -> list[str]:
    """Those of the columns `names` of the table that an image of the changes does not have."""
    of_table = {column.name for column in batch.schema.columns}
    images = [batch.data.column(image) for image in ("before", "after")]
    used = [image.type for image in images if image.null_count < len(batch)]
    return [name for name in names if name in of_table and any(kind.get_field_index(name) < 0 for kind in used)]


def image_keys(batch: ChangeBatch, image: ImageName, names: Sequence[str]) -> list[Key | None]:
    """The key in an image of each change; None where the change has no such image. Raises UnknownKeyError."""
    struct = batch.data.column(image)
    count = len(batch)
    if struct.null_count == count:
        return [None] * count
    columns: list[list[Any]] = []
    for name in names:
        index = struct.type.get_field_index(name)
        if index < 0:
            raise UnknownKeyError
        values = python_values(struct.field(index))
        texts = batch.impossible.get((image, name))
        if texts is not None and texts.null_count < count:
            values = [value if text is None else text for value, text in zip(values, texts.to_pylist(), strict=True)]
        columns.append(values)
    keys: list[Key | None] = list(zip(*columns, strict=True)) if columns else [()] * count
    if struct.null_count:
        keys = [key if there else None for key, there in zip(keys, struct.is_valid().to_pylist(), strict=True)]
    return keys
