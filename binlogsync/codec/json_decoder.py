"""Decodes envelopes to ChangeBatches. The kernels of envelope_reader.py decode many in the layout that the tail writes.
A JSON decoder for each table schema decodes the others: few to Python values, more to Arrow columns.

`parse` accepts only envelopes as written by envelope.py. An absent column stays absent, NULL stays NULL, and texts of
impossible dates are in `impossible` again. Numbers and JSON documents keep every digit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from operator import attrgetter
from typing import Any, Literal, TypedDict

import msgspec
import numpy as np
import pyarrow as pa

from binlogsync.change_batch import ChangeBatch
from binlogsync.codec.column_parser import RAW_TYPES
from binlogsync.codec.envelope_batch import EnvelopeBatch, ImageColumns, build_columns, decode_change
from binlogsync.codec.envelope_program import Numbers
from binlogsync.codec.envelope_reader import read_envelopes
from binlogsync.errors import WireError, excerpt
from binlogsync.schema import GEOMETRY_TYPES, INTEGER_BITS, Column, TableSchema

MOST_AS_VALUES = 31
"""Up to this many changes are decoded to Python values, and more to Arrow columns: by the kernels, whose fixed costs
are larger than all costs of msgspec for fewer messages.
"""
_LARGE_BYTES = 40_000
"""From this size on, the kernels are faster even for few messages."""
_UNSUPPORTED_NAME = re.compile(r'["\\\x00-\x1f]')


class _Source(msgspec.Struct, gc=False):
    ts_us: int
    server_id: int
    server_uuid: str
    file: str
    pos: int
    row: int
    txn_pos: int
    gtid: str | None
    json_null: list[str] | None = None


class _TransactionField(msgspec.Struct, gc=False):
    total_order: int
    id: msgspec.Raw = msgspec.Raw(b"null")


class _Geometry(TypedDict):
    srid: int
    wkb: str


_JSON_TYPES: dict[str, Any] = {
    **dict.fromkeys((*INTEGER_BITS, "year"), int | None),
    **dict.fromkeys(RAW_TYPES, msgspec.Raw),
    **dict.fromkeys(GEOMETRY_TYPES, _Geometry | None),
    "set": list[str] | None,
}


@dataclass(frozen=True, slots=True)
class _Codec:
    """Decoders for the envelopes of one table.

    Attributes:
        full: requires every column; None if the table's columns do not allow it.
        partial: allows absent columns.
        values: returns an image's values in the order of the columns, UNSET if absent.
        getters: return the value of one column each, for images decoded by `full`; this avoids a tuple for each row,
            and many tuples would trigger garbage collections.
        null_image: replaces a null image decoded by `full`.
    """

    full: msgspec.json.Decoder[Any] | None
    partial: msgspec.json.Decoder[Any]
    values: Callable[[Any], tuple[Any, ...]]
    null_image: Any
    getters: tuple[Callable[[Any], Any], ...] = ()


@lru_cache(maxsize=1024)
def _codec(schema: TableSchema) -> _Codec:
    if any(_UNSUPPORTED_NAME.search(column.name) for column in schema.columns) or len(schema.columns) < 2:
        return _codec_by_name(schema)
    names = {f"c{i}": column.name for i, column in enumerate(schema.columns)}
    shapes = [(name, _json_type(column)) for name, column in zip(names, schema.columns, strict=True)]
    full = msgspec.defstruct("Image", shapes, rename=names, gc=False)
    optional = [(name, shape | msgspec.UnsetType, msgspec.UNSET) for name, shape in shapes]
    partial = msgspec.defstruct("PartialImage", optional, rename=names, gc=False)
    getters = tuple(attrgetter(name) for name in names)
    return _Codec(_decoder(full), _decoder(partial), attrgetter(*names), full(*[None] * len(names)), getters)


def _codec_by_name(schema: TableSchema) -> _Codec:
    """For tables with column names that msgspec structs do not support, and for tables of one column: slower, with the
    same result.
    """
    readers = [(column.name, msgspec.json.Decoder(_json_type(column)).decode) for column in schema.columns]

    def values(image: dict[str, msgspec.Raw]) -> tuple[Any, ...]:
        return tuple(read(image[name]) if name in image else msgspec.UNSET for name, read in readers)

    return _Codec(None, _decoder(dict[str, msgspec.Raw]), values, None)


def _json_type(column: Column) -> Any:
    if column.type == "bit":
        return (bool if column.length == 1 else int) | None
    return _JSON_TYPES.get(column.type, str | None)


def _decoder(image: Any) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, Any]] = [
        ("before", image | None),
        ("after", image | None),
        ("source", _Source),
        ("op", Literal["c", "u", "d", "r", "t"]),
        ("transaction", _TransactionField),
    ]
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, gc=False))


def parse(messages: Sequence[bytes], schema: TableSchema) -> list[ChangeBatch]:
    """The changes of messages of one table under one schema; a message has one envelope, or several, one on each line.

    Usually one batch; more if the server or the columns of partial images change. `seq` counts from 0 across the
    batches. Raises WireError for a message that `render` did not write.
    """
    sizes = np.array([len(message) + 1 for message in messages], np.int64)
    ends = np.cumsum(sizes)
    return parse_text(b"\n".join(messages) + b"\n", ends - sizes, ends - 1, schema)[0]


def parse_text(
    text: bytes | memoryview, begins: Numbers, ends: Numbers, schema: TableSchema
) -> tuple[list[ChangeBatch], Numbers | None]:
    """`parse` for the messages text[begins[i]:ends[i]], and the number of changes in each; None if not known."""
    if len(begins) > MOST_AS_VALUES or int((ends - begins).sum()) >= _LARGE_BYTES:
        found = read_envelopes(np.frombuffer(text, np.uint8), begins, ends, schema)
        if found is not None:
            return found
    messages = [bytes(text[begin:end]) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    return parse_any(messages, schema), None


def parse_any(messages: Sequence[bytes], schema: TableSchema) -> list[ChangeBatch]:
    """`parse` for JSON of any layout, with partial images and without kernels: slower, except for very few messages."""
    codec = _codec(schema)
    full = _decode_full(codec, messages)
    try:
        if full is not None and len(full) > MOST_AS_VALUES:
            return _build(schema, full, _server_starts(full), _columns(codec, full))
        envelopes = full or [e for i, each in enumerate(messages) for e in _decode_partial(codec, each, i, schema)]
        before, after = _rows(codec, envelopes, schema)
        starts = _starts(envelopes, (before, after)) if full is None else _server_starts(envelopes)
        if len(envelopes) > MOST_AS_VALUES:
            none = (None,) * len(schema.columns)
            columns = [list(zip(*[row or none for row in rows], strict=True)) for rows in (before, after)]
            return _build(schema, envelopes, starts, columns)
        size = sum(map(len, messages)) // max(1, len(envelopes))
        changes = list(map(partial(decode_change, schema), envelopes, zip(before, after, strict=True)))
        return [
            EnvelopeBatch(schema, changes[a:b], range(a, b), size * (b - a)) for a, b in _spans(starts, len(changes))
        ]
    except (OverflowError, ValueError, TypeError) as error:
        raise WireError(f"{schema.name}: a value is out of range for its column: {excerpt(str(error))}") from error


def _build(
    schema: TableSchema, envelopes: Sequence[Any], starts: Sequence[int], columns: Sequence[ImageColumns]
) -> list[ChangeBatch]:
    """One batch of Arrow columns for each start index."""
    return [
        build_columns(
            schema,
            envelopes[start:stop],
            ([column[start:stop] for column in columns[0]], [column[start:stop] for column in columns[1]]),
            pa.array(range(start, stop), pa.int64()),
        )
        for start, stop in _spans(starts, len(envelopes))
    ]


def _spans(starts: Sequence[int], end: int) -> list[tuple[int, int]]:
    return [(start, stop) for start, stop in pairwise([*starts, end]) if start < stop]


def _columns(codec: _Codec, envelopes: Sequence[Any]) -> Sequence[ImageColumns]:
    """The values of each column of both images, of envelopes that `full` has decoded."""
    images = [[codec.null_image if e.before is None else e.before for e in envelopes]]
    images.append([codec.null_image if e.after is None else e.after for e in envelopes])
    return [[list(map(get, image)) for get in codec.getters] for image in images]


def _rows(codec: _Codec, envelopes: Sequence[Any], schema: TableSchema) -> list[list[tuple[Any, ...] | None]]:
    """The values of all before images, and of all after images."""
    try:
        return [
            [None if image is None else codec.values(image) for image in (getattr(e, name) for e in envelopes)]
            for name in ("before", "after")
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{schema.name}: a value is not of its column's type: {excerpt(str(error))}") from error


def _decode_full(codec: _Codec, messages: Sequence[bytes]) -> list[Any] | None:
    """Decode all envelopes at once; None when one of them is partial or invalid."""
    if codec.full is None:
        return None
    try:
        return list(codec.full.decode_lines(b"\n".join(messages)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _decode_partial(codec: _Codec, message: bytes, number: int, schema: TableSchema) -> list[Any]:
    try:
        return list(codec.partial.decode_lines(message))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"{schema.name}: message {number} of {len(message)} bytes is not an envelope of this table: "
            f"{excerpt(str(error))}"
        ) from error


def _server_starts(envelopes: Sequence[Any]) -> list[int]:
    """Start indexes of batches: a change of the server starts a new one."""
    servers = [(envelope.source.server_uuid, envelope.source.server_id) for envelope in envelopes]
    return [0, *(i for i, (one, two) in enumerate(pairwise(servers), 1) if one != two)]


def _starts(envelopes: Sequence[Any], rows: Sequence[Sequence[tuple[Any, ...] | None]]) -> list[int]:
    """Start indexes of batches: a change of the server or of the set of columns (NULL images fit any) starts one."""
    starts = [0]
    server: tuple[str, int] | None = None
    present: list[tuple[bool, ...] | None] = [None, None]
    for i, envelope in enumerate(envelopes):
        here = (envelope.source.server_uuid, envelope.source.server_id)
        own: list[tuple[bool, ...] | None] = [None, None]
        for k, image in enumerate((envelope.before, envelope.after)):
            if image is not None:
                own[k] = tuple(value is msgspec.UNSET for value in rows[k][i] or ())
        fits = all(a is None or b is None or a == b for a, b in zip(own, present, strict=True))
        if i and (here != server or not fits):
            starts.append(i)
            present = [None, None]
        server = here
        present = [a if a is not None else b for a, b in zip(own, present, strict=True)]
    return starts
