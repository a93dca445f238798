"""Decodes envelopes with full images, as envelope.py writes them, to ChangeBatches, by kernels only.

`read_envelopes` gives up (None) at the first envelope or value in another form, valid or not: json_decoder.py then
decodes the messages, or reports what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.binlog.memory import address
from binlogsync.change import OPS, ImageName
from binlogsync.change_batch import OP_TYPE, TIME_TYPE, ChangeBatch, build_batch
from binlogsync.codec.envelope_program import EnvelopeValues, Numbers, envelope_program, find_values
from binlogsync.codec.json_scan import LENGTH
from binlogsync.codec.json_texts import Bytes
from binlogsync.codec.null_images import image_fields, null_images
from binlogsync.codec.span_columns import SpanColumn, read_spans, strings
from binlogsync.codec.span_fields import (
    STRING_FIELD,
    TEMPORAL_TYPES,
    FieldPlan,
    JsonField,
    UnusualValueError,
    column_field,
    integer_field,
    label_field,
)
from binlogsync.codec.span_parts import find_runs
from binlogsync.position import SNAPSHOT
from binlogsync.schema import TableSchema

_IMAGES: tuple[ImageName, ...] = ("before", "after")
_NULL = ord("n")
_MEMBERS = {
    "op": label_field(OPS, OP_TYPE),
    "gtid": STRING_FIELD,
    "file": STRING_FIELD,
    "ts_us": integer_field(TIME_TYPE),
    "pos": integer_field(pa.uint64()),
    "row": integer_field(pa.uint32()),
    "txn_pos": integer_field(pa.uint64()),
    "total_order": integer_field(pa.uint64()),
}
"""Members outside of the images that are read together with the columns."""
Impossible = dict[tuple[ImageName, str], pa.StringArray]


def read_envelopes(
    data: Bytes, begins: Numbers, ends: Numbers, schema: TableSchema
) -> tuple[list[ChangeBatch], Numbers] | None:
    """(batches, number of envelopes in each message) of the messages data[begins[i]:ends[i]] of one table, each of one
    envelope or several, one on each line; None if one is not as expected.

    A batch has a few thousand changes of one server. `seq` counts from 0 across the batches.
    """
    batches: list[ChangeBatch] = []
    lines: list[Numbers] = []
    done = rows = 0
    while done < len(begins):
        values = find_values(data, begins[done:], ends[done:], schema)
        if values is None:
            return None
        try:
            reader = _EnvelopeReader(values, schema, rows)
            batches += [reader.batch(*span) for span in pairwise([*reader.server_starts(), len(values)])]
        except (UnusualValueError, pa.ArrowException, msgspec.MsgspecError, ValueError, OverflowError):
            return None
        lines.append(values.lines)
        done, rows = done + len(values.lines), rows + len(values)
    return batches, np.concatenate(lines) if lines else np.empty(0, np.int64)


class _EnvelopeReader:
    """Converts the values of envelopes of one table."""

    def __init__(self, values: EnvelopeValues, schema: TableSchema, first: int) -> None:
        self._values = values
        self._schema = schema
        self._first = first  # `seq` of the first row

    def server_starts(self) -> list[int]:
        """Start indexes of batches: a change of the server starts a new one."""
        members = (self._member(name, 0, len(self._values)) for name in ("server_uuid", "server_id"))
        firsts = [self._run_starts(values) for values in members]
        found: list[int] = np.unique(np.concatenate(firsts)).tolist()
        return found

    def batch(self, start: int, stop: int) -> ChangeBatch:
        """The changes of the rows start..stop-1, which have one server."""
        values = self._values
        starts, sizes = values.starts[:, start:stop], values.sizes[:, start:stop]
        is_null = [starts[slot] < 0 for slot in values.program.images]
        has_image = [not bool(mask.all()) for mask in is_null]
        arrays = iter(_plan(self._schema, *has_image).read(values.data, starts, sizes))
        columns: dict[str, Any] = {name: next(arrays) for name in _MEMBERS}
        if any(array is None or (array.null_count and name != "gtid") for name, array in columns.items()):
            raise UnusualValueError
        impossible: Impossible = {}
        images = [
            self._image(name, start, mask, arrays, impossible) if is_some else null_images(self._schema, stop - start)
            for name, mask, is_some in zip(_IMAGES, is_null, has_image, strict=True)
        ]
        ops, orders = columns.pop("op"), columns.pop("total_order").to_numpy()
        if not orders.all():
            raise UnusualValueError
        columns["order"] = pa.array(orders - np.uint64(1))
        columns["seq"] = pa.array(np.arange(self._first + start, self._first + stop))
        numbers = ops.indices.to_numpy()
        is_read = (numbers == OPS.index("r")) | (numbers == OPS.index("t"))
        if is_read.any():
            names = strings(self._member("id", start, stop))
            is_published = pc.and_(pa.array(is_read), pc.starts_with(names, SNAPSHOT))
            columns["gtid"] = pc.if_else(is_published, names, columns["gtid"])
        for name in ("gtid", "file"):
            columns[name] = columns[name].dictionary_encode()
        server = (
            self._text("server_uuid", start).decode(),
            msgspec.json.decode(self._text("server_id", start), type=int),
        )
        return build_batch(self._schema, ops, (images[0], images[1]), columns, server, impossible)

    def _column(self, slot: int, start: int, stop: int) -> SpanColumn:
        values = self._values
        return SpanColumn(values.data, values.starts[slot, start:stop], values.sizes[slot, start:stop])

    def _member(self, name: str, start: int, stop: int) -> SpanColumn:
        """Values outside of the images, none of which is null."""
        found = self._column(self._values.program.names[name], start, stop)
        if int(found.starts.min()) < 0:
            raise UnusualValueError
        return found

    def _text(self, name: str, row: int) -> bytes:
        """One value outside of the images, which is not null."""
        slot = self._values.program.names[name]
        start, size = int(self._values.starts[slot, row]), int(self._values.sizes[slot, row])
        if size > LENGTH:
            raise UnusualValueError
        return bytes(self._values.data[start : start + size])

    @staticmethod
    def _run_starts(values: SpanColumn) -> npt.NDArray[np.int32]:
        """The first row of each run of equal values."""
        firsts = np.empty(len(values), np.int32)
        return firsts[: find_runs(*values.addresses, address(firsts))]

    def _image(
        self,
        name: ImageName,
        start: int,
        is_null: npt.NDArray[np.bool_],
        arrays: Iterator[pa.Array | None],
        impossible: Impossible,
    ) -> pa.StructArray:
        """An image of the rows from `start` on; `arrays` are those of the plan, None for what is read here."""
        slot, stop = self._values.program.images[_IMAGES.index(name)], start + len(is_null)
        made = []
        for number, (column, own) in enumerate(zip(self._schema.columns, _fields(self._schema), strict=True), 1):
            array = None if own is None else next(arrays)
            if array is None:
                values = self._column(slot + number, start, stop)
                if column.type == "json":
                    values = values.select(~self._null_documents(values, f"{name}.{column.name}", start))
                array = read_spans(column, values)
            elif column.type in TEMPORAL_TYPES and array.null_count:
                values = self._column(slot + number, start, stop)
                odd = (values.starts >= 0) & array.is_null().to_numpy(zero_copy_only=False)
                if odd.any():
                    impossible[name, column.name] = strings(values.select(odd))
            made.append(array)
        mask = pa.array(is_null) if is_null.any() else None
        return pa.StructArray.from_arrays(made, fields=image_fields(self._schema), mask=mask)

    def _null_documents(self, values: SpanColumn, path: str, start: int) -> npt.NDArray[np.bool_]:
        """Mask of the rows whose `null` is NULL, not the JSON value null."""
        found: npt.NDArray[np.bool_] = values.data[values.starts] == _NULL
        named = self._column(self._values.program.names["json_null"], start, start + len(values))
        for row in np.flatnonzero(found & (named.starts >= 0)).tolist():
            at = int(named.starts[row])
            text = bytes(values.data[at : at + (int(named.sizes[row]) & LENGTH)])
            found[row] = path not in msgspec.json.decode(text, type=list[str])
        return found


@lru_cache(maxsize=1024)
def _fields(schema: TableSchema) -> tuple[JsonField | None, ...]:
    return tuple(column_field(column) for column in schema.columns)


@lru_cache(maxsize=1024)
def _plan(schema: TableSchema, has_before: bool, has_after: bool) -> FieldPlan:
    """The fields of _MEMBERS, then those of the columns of the images that are there."""
    program = envelope_program(schema)
    found = [(program.names[name], own) for name, own in _MEMBERS.items()]
    for slot, is_there in zip(program.images, (has_before, has_after), strict=True):
        if is_there:
            found += [(slot + number, own) for number, own in enumerate(_fields(schema), 1) if own is not None]
    return FieldPlan(found)
