"""Joins small batches of one table, so that they are processed in columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from binlogsync.binlog.rendered import RenderedBatch
from binlogsync.change_batch import ChangeBatch

SMALL = 2048
"""Batches with fewer changes are joined."""


def join_batches(batches: Sequence[ChangeBatch]) -> list[ChangeBatch]:
    """The same changes, each batch in order of `seq`; adjacent small batches of a table under one schema are joined.

    Empty batches are omitted, and rendered batches are not joined. `seq` still gives the order of the changes across
    tables.
    """
    groups: list[list[ChangeBatch]] = []
    last: dict[tuple[str, str], int] = {}
    for batch in batches:
        if not len(batch):
            continue
        if isinstance(batch, RenderedBatch):
            groups.append([batch])
            continue
        table = (batch.schema.database, batch.schema.table)
        index = last.get(table)
        if index is not None and len(batch) < SMALL and _fits(groups[index], batch):
            groups[index].append(batch)
        else:
            last[table] = len(groups)
            groups.append([batch])
    return [group[0] if len(group) == 1 else _joined(group) for group in groups]


def _fits(group: Sequence[ChangeBatch], batch: ChangeBatch) -> bool:
    first = group[0]
    return (
        len(first) < SMALL
        and first.ddl is batch.ddl is None
        and first.schema == batch.schema
        and (first.server_uuid, first.server_id) == (batch.server_uuid, batch.server_id)
        and first.data.schema.equals(batch.data.schema)
        and first.impossible.keys() == batch.impossible.keys()
        and all(_same_labels(first.data.column(image), batch.data.column(image)) for image in ("before", "after"))
    )


def _same_labels(left: pa.StructArray, right: pa.StructArray) -> bool:
    """True when the dictionaries of ENUM columns are equal, which is usual under one schema.

    Arrow can join different dictionaries too, but reads past the end of an empty one if its image is NULL.
    """
    return all(
        left.field(i).dictionary.equals(right.field(i).dictionary)
        for i, field in enumerate(left.type)
        if pa.types.is_dictionary(field.type)
    )


def _joined(group: Sequence[ChangeBatch]) -> ChangeBatch:
    first = group[0]
    impossible = {key: pa.concat_arrays([batch.impossible[key] for batch in group]) for key in first.impossible}
    data = pa.concat_batches([batch.data for batch in group])
    seq = data.column("seq").to_numpy()
    if (seq[1:] < seq[:-1]).any():
        # Changes with partial images are in separate batches, which interleave within one flush.
        order = pa.array(np.argsort(seq))
        data = data.take(order)
        impossible = {key: texts.take(order) for key, texts in impossible.items()}
    return ChangeBatch(first.schema, data, first.server_uuid, first.server_id, impossible)
