"""Changes as the DataFrame or the record batch that a handler takes.

A frame has the columns `op`, `id`, `ts` (commit time), `gtid`, `file`, `pos`, `row`, and `before.x` and `after.x` of
each column x, with Arrow types, so that integers with NULLs stay integers. A record batch has the same columns, with
`before` and `after` as structs. With a model they contain only the columns of its fields. Zero and impossible dates are
NULL in both, and a warning counts them; the other two forms contain them as text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from binlogsync.change_batch import ChangeBatch

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_POSITION_COLUMNS = ("gtid", "file", "pos", "row")


def record_batch(batch: ChangeBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
    """The changes as a record batch, whose images contain only the given columns of the table; None keeps all."""
    _warn_impossible_dates(batch, columns)
    data = batch.data
    fields: dict[str, pa.Array] = {
        "op": data.column("op").cast(pa.string()),
        "id": batch.ids(),
        "ts": data.column("ts_us"),
        **{name: _decode_labels(data.column(name)) for name in _POSITION_COLUMNS},
        **{image: _select_columns(data.column(image), columns) for image in ("before", "after")},
    }
    return pa.RecordBatch.from_pydict(fields)


def frame(batch: ChangeBatch, columns: Sequence[str] | None) -> pd.DataFrame:
    """The changes as a DataFrame, with a column for each column of an image."""
    import pandas as pd

    data = record_batch(batch, columns)
    flat = {name: data.column(name) for name in data.schema.names if name not in ("before", "after")}
    for image in ("before", "after"):
        struct: pa.StructArray = data.column(image)
        flat |= {
            f"{image}.{item.name}": _decode_labels(values)
            for item, values in zip(struct.type, struct.flatten(), strict=True)
        }
    made: pd.DataFrame = pa.table(flat).to_pandas(types_mapper=pd.ArrowDtype)
    return made


def _decode_labels(array: pa.Array) -> pa.Array:
    """Dictionary arrays as strings: the string methods of pandas do not accept dictionaries."""
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def _select_columns(struct: pa.StructArray, columns: Sequence[str] | None) -> pa.StructArray:
    if columns is None:
        return struct
    kept = [index for index, item in enumerate(struct.type) if item.name in columns]
    fields = [struct.type.field(index) for index in kept]
    arrays = [struct.field(index) for index in kept]
    if not fields:
        return pa.nulls(len(struct), pa.struct([]))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=struct.is_null())


def _warn_impossible_dates(batch: ChangeBatch, columns: Sequence[str] | None) -> None:
    for image, column, count in _count_impossible(batch):
        if columns is None or column in columns:
            log.warning(
                "%s.%s: %d zero or impossible date(s) in %s are NULL in this batch; a handler of Change[...] gets them "
                "as text",
                batch.schema.name, column, count, image,
            )  # fmt: skip


def _count_impossible(batch: ChangeBatch) -> Iterator[tuple[str, str, int]]:
    for (image, column), texts in batch.impossible.items():
        if count := len(texts) - texts.null_count:
            yield image, column, count
