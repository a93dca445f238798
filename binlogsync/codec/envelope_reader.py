"""Decodes envelopes with full images, as envelope.py writes them, to ChangeBatches, by kernels only.

`read_envelopes` gives up (None) at the first envelope or value in another form, valid or not: json_decoder.py then
decodes the messages, or reports what is wrong.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from binlogsync.binlog.memory import address
from binlogsync.change import OPS
from binlogsync.change_batch import NAME_TYPE, OP_TYPE, SOURCE_FIELDS, ChangeBatch, build_batch
from binlogsync.codec.envelope_program import EnvelopeValues, Numbers, find_values
from binlogsync.codec.json_scan import LENGTH
from binlogsync.codec.json_texts import Bytes
from binlogsync.codec.span_columns import SpanColumn, UnusualValueError, integers, labels, read_spans, strings
from binlogsync.codec.span_parts import find_runs
from binlogsync.position import SNAPSHOT
from binlogsync.schema import TableSchema, arrow_type

_NULL = ord("n")
Impossible = dict[tuple[Literal["before", "after"], str], pa.StringArray]


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
        firsts = [self._runs(self._member(name, 0, len(self._values)))[1] for name in ("server_uuid", "server_id")]
        found: list[int] = np.unique(np.concatenate(firsts)).tolist()
        return found

    def batch(self, start: int, stop: int) -> ChangeBatch:
        """The changes of the rows start..stop-1, which have one server."""
        impossible: Impossible = {}
        images = [self._image(name, start, stop, impossible) for name in ("before", "after")]
        columns: dict[str, pa.Array] = {
            "seq": pa.array(np.arange(self._first + start, self._first + stop)),
            "order": integers(self._member("total_order", start, stop), pa.uint64()),
        }
        orders = columns["order"].to_numpy()
        if not orders.all():
            raise UnusualValueError
        columns["order"] = pa.array(orders - np.uint64(1))
        for item in SOURCE_FIELDS:
            if item.name not in columns:
                member = self._member(item.name, start, stop, is_nullable=item.name == "gtid")
                if item.type == NAME_TYPE:
                    columns[item.name] = self._names(member)
                else:
                    columns[item.name] = integers(member, item.type if pa.types.is_integer(item.type) else pa.int64())
        ops = labels(self._member("op", start, stop), OPS, OP_TYPE)
        numbers = ops.indices.to_numpy()
        is_read = (numbers == OPS.index("r")) | (numbers == OPS.index("t"))
        if is_read.any():
            names = self._names(self._member("id", start, stop)).cast(pa.string())
            is_published = pc.and_(pa.array(is_read), pc.starts_with(names, SNAPSHOT))
            gtids = pc.if_else(is_published, names, columns["gtid"].cast(pa.string()))
            columns["gtid"] = gtids.dictionary_encode().cast(NAME_TYPE)
        uuid, number = (
            strings(self._member(name, start, start + 1))[0].as_py() for name in ("server_uuid", "server_id")
        )
        server = (uuid, msgspec.json.decode(number, type=int))
        return build_batch(self._schema, ops, (images[0], images[1]), columns, server, impossible)

    def _column(self, slot: int, start: int, stop: int) -> SpanColumn:
        values = self._values
        return SpanColumn(values.data, values.starts[slot, start:stop], values.sizes[slot, start:stop])

    def _member(self, name: str, start: int, stop: int, is_nullable: bool = False) -> SpanColumn:
        """Values outside of the images."""
        found = self._column(self._values.program.names[name], start, stop)
        if not is_nullable and int(found.starts.min()) < 0:
            raise UnusualValueError
        return found

    @staticmethod
    def _runs(values: SpanColumn) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """For each row the number of its run of equal values; the first row of each run."""
        numbers, firsts = np.empty((2, len(values)), np.int32)
        count = find_runs(*values.addresses, address(numbers), address(firsts))
        return numbers, firsts[:count]

    def _names(self, values: SpanColumn) -> pa.DictionaryArray:
        """Strings most of which equal the previous one."""
        numbers, firsts = self._runs(values)
        names = strings(SpanColumn(values.data, values.starts[firsts], values.sizes[firsts])).dictionary_encode()
        return pa.DictionaryArray.from_arrays(names.indices.take(pa.array(numbers)), names.dictionary)

    def _image(self, name: Literal["before", "after"], start: int, stop: int, impossible: Impossible) -> pa.StructArray:
        slot = self._values.program.images[name == "after"]
        is_null = self._column(slot, start, stop).starts < 0
        is_empty = bool(is_null.all())
        arrays, fields = [], []
        for number, column in enumerate(self._schema.columns, 1):
            values = self._column(slot + number, start, stop)
            if is_empty and column.type != "enum":
                array, texts = pa.nulls(stop - start, arrow_type(column)), None
            else:
                if column.type == "json":
                    values = values.select(~self._null_documents(values, f"{name}.{column.name}", start))
                array, texts = read_spans(column, values)
            if texts is not None:
                impossible[name, column.name] = texts
            arrays.append(array)
            fields.append(pa.field(column.name, array.type))
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(is_null))

    def _null_documents(self, values: SpanColumn, path: str, start: int) -> npt.NDArray[np.bool_]:
        """Mask of the rows whose `null` is NULL, not the JSON value null."""
        found: npt.NDArray[np.bool_] = values.data[values.starts] == _NULL
        named = self._column(self._values.program.names["json_null"], start, start + len(values))
        for row in np.flatnonzero(found & (named.starts >= 0)).tolist():
            at = int(named.starts[row])
            text = bytes(values.data[at : at + (int(named.sizes[row]) & LENGTH)])
            found[row] = path not in msgspec.json.decode(text, type=list[str])
        return found
