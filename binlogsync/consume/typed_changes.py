"""The changes of a batch with instances of a model, from any index.

A part of the batch is converted at a time, so that memory use does not depend on its size. Instances are created again
for a change that is requested again, because a handler may have modified the previous ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from binlogsync.change import Change
from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ModelError
from binlogsync.models.model import Model

M = TypeVar("M")
_AT_ONCE = 1024


class TypedChanges(Generic[M]):
    """Changes of one batch as `Change[M]`."""

    def __init__(self, model: Model[M], batch: ChangeBatch) -> None:
        self._model = model
        self._batch = batch
        self._following: Iterator[Change[M]] = iter(())
        self._next = self._end = 0  # index of the next change of `_following`, and the index after its last one

    def take(self, start: int, stop: int) -> tuple[list[Change[M]], ModelError | None]:
        """The changes start..stop-1 up to the first that the model refuses, and the error of that one."""
        found: list[Change[M]] = []
        for index in range(start, stop):
            if index != self._next or index == self._end:
                self._next, self._end = index, min(index + _AT_ONCE, len(self._batch))
                self._following = self._model.changes(self._batch.slice(index, self._end))
            try:
                found.append(next(self._following))
            except ModelError as error:
                self._end = index  # the iterator ends after an error
                return found, error
            self._next += 1
        return found, None
