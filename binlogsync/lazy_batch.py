"""Batches of few changes as Python values or JSON, whose Arrow columns are built when they are first used.

Building the columns of one change takes as long as building those of a hundred, and longer than all other work on such
a batch. Handlers and small flushes never need them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa

from binlogsync.change import ImageName
from binlogsync.change_batch import ChangeBatch


class LazyBatch(ChangeBatch):
    """Builds `data` and `impossible` on first use.

    `dataclasses.replace` does not work; use `with_schema` or `with_seqs`. A copied or unpickled batch is a plain
    ChangeBatch.
    """

    __slots__ = ("_columns",)
    _columns: ChangeBatch | None

    def _set(self, **values: Any) -> None:
        """Set attributes of the new batch, which is immutable afterwards."""
        values |= {"ddl": None, "_columns": None}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @abstractmethod
    def to_columns(self) -> ChangeBatch:
        """The same changes as columns."""

    def _as_columns(self) -> ChangeBatch:
        if self._columns is None:
            object.__setattr__(self, "_columns", self.to_columns())  # equal, if two threads do it at once
        return cast(ChangeBatch, self._columns)

    @property
    def data(self) -> pa.RecordBatch:
        """See ChangeBatch."""
        return self._as_columns().data

    @property
    def impossible(self) -> Mapping[tuple[ImageName, str], pa.StringArray]:
        """See ChangeBatch."""
        return self._as_columns().impossible

    def __reduce__(self) -> tuple[type[ChangeBatch], tuple[Any, ...]]:
        return ChangeBatch, (self.schema, self.data, self.server_uuid, self.server_id, dict(self.impossible))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyBatch):
            other = other._as_columns()
        return self._as_columns() == other
