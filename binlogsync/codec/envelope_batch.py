"""Builds ChangeBatches from decoded envelopes: with Arrow columns, or with Python values and columns on first use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import msgspec
import pyarrow as pa

from binlogsync.change import Change, ImageName, Op, RowChange, SourceInfo, SourceValues
from binlogsync.change_batch import ChangeBatch, build_batch, unix_epoch
from binlogsync.codec.column_parser import RAW_TYPES, read_column
from binlogsync.codec.null_images import null_images
from binlogsync.codec.value_reader import image_reader
from binlogsync.lazy_batch import LazyBatch
from binlogsync.position import SNAPSHOT
from binlogsync.schema import TableSchema

ImageColumns = Sequence[Sequence[Any]]
"""For each column of the table, a value for each change: UNSET if it is absent, None without the image."""
_QUOTED_SNAPSHOT = f'"{SNAPSHOT}'.encode()
_INT64_END, _UINT64_END, _UINT32_END = 1 << 63, 1 << 64, 1 << 32


def build_columns(
    schema: TableSchema, envelopes: Sequence[Any], image_columns: tuple[ImageColumns, ImageColumns], seqs: pa.Int64Array
) -> ChangeBatch:
    """One batch with Arrow columns, of envelopes of one server; `image_columns` has the values before and after.

    Raises WireError, OverflowError, ValueError or TypeError for a value that does not fit its column.
    """
    sources = [envelope.source for envelope in envelopes]
    impossible: dict[tuple[ImageName, str], pa.StringArray] = {}
    names: tuple[ImageName, ImageName] = ("before", "after")
    images = []
    for name, values in zip(names, image_columns, strict=True):
        is_null = [getattr(envelope, name) is None for envelope in envelopes]
        images.append(_image(schema, (name, sources), values, is_null, impossible))
    columns: dict[str, Any] = {
        name: [getattr(source, name) for source in sources]
        for name in ("ts_us", "gtid", "file", "pos", "row", "txn_pos")
    }
    columns["ts_us"] = pa.array(columns["ts_us"], pa.int64())
    columns["order"] = [envelope.transaction.total_order - 1 for envelope in envelopes]
    columns["seq"] = seqs
    ops: list[Op] = [envelope.op for envelope in envelopes]
    if "r" in ops or "t" in ops:
        columns["gtid"] = [_gtid(envelope) for envelope in envelopes]
    server = (sources[0].server_uuid, sources[0].server_id)
    return build_batch(schema, ops, (images[0], images[1]), columns, server, impossible)


def _gtid(envelope: Any) -> str | None:
    """The GTID; of a row or reset that a snapshot has published, the name of the snapshot."""
    if envelope.op in ("r", "t") and bytes(envelope.transaction.id).startswith(_QUOTED_SNAPSHOT):
        try:
            return msgspec.json.decode(envelope.transaction.id, type=str)
        except msgspec.DecodeError as error:
            raise ValueError(f"the id of the transaction: {error}") from error
    return cast(str | None, envelope.source.gtid)


def _is_json_null(source: Any, name: str) -> bool:
    return source.json_null is not None and name in source.json_null


def _image(
    schema: TableSchema,
    where: tuple[ImageName, Sequence[Any]],
    image_columns: ImageColumns,
    is_null: Sequence[bool],
    impossible: dict[tuple[ImageName, str], pa.StringArray],
) -> pa.StructArray:
    """One image of all rows; `where` is its name, and the sources, which list its JSON nulls."""
    if all(is_null):
        return null_images(schema, len(is_null))
    name, sources = where
    sample = is_null.index(False)
    columns = zip(schema.columns, image_columns, strict=True) if image_columns else ()
    arrays, fields = [], []
    for column, values in columns:
        if values[sample] is msgspec.UNSET:
            continue
        own = values
        if column.type in RAW_TYPES:
            own = [None if value is None else bytes(value) for value in values]
        if column.type == "json":
            path = f"{name}.{column.name}"
            own = [
                None if value == b"null" and not _is_json_null(source, path) else value
                for value, source in zip(own, sources, strict=True)
            ]
        array, texts = read_column(column, own)
        if texts is not None:
            impossible[name, column.name] = texts
        arrays.append(array)
        fields.append(pa.field(column.name, array.type))
    return _struct(arrays, fields, is_null)


def _struct(arrays: Sequence[pa.Array], fields: Sequence[pa.Field], is_null: Sequence[bool]) -> pa.StructArray:
    if not fields:
        return pa.array([None if null else {} for null in is_null], pa.struct([]))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(is_null))


@dataclass(frozen=True, slots=True)
class DecodedChange:
    """One change in Python values.

    Attributes:
        envelope: the decoded envelope.
        images: the values before and after, of all columns in order, UNSET if absent; None without the image.
        view: the row view.
    """

    envelope: Any
    images: tuple[Sequence[Any] | None, Sequence[Any] | None]
    view: RowChange


def decode_change(
    schema: TableSchema, envelope: Any, images: tuple[Sequence[Any] | None, Sequence[Any] | None]
) -> DecodedChange:
    """The change of an envelope; raises WireError, OverflowError or ValueError as `build_columns` does."""
    source, order, gtid = envelope.source, envelope.transaction.total_order - 1, _gtid(envelope)
    if not (
        -_INT64_END <= source.ts_us < _INT64_END
        and 0 <= source.pos < _UINT64_END
        and 0 <= source.row < _UINT32_END
        and 0 <= source.txn_pos < _UINT64_END
        and 0 <= order < _UINT64_END
    ):
        raise OverflowError(f"a number in `source` is out of range: {source}")
    reader, rows = image_reader(schema), []
    for name, values in zip(("before.", "after."), images, strict=True):
        nulls = [path[len(name) :] for path in source.json_null or () if path.startswith(name)]
        rows.append(None if values is None else reader.read(values, nulls))
    is_read = envelope.op == "r" or (envelope.op == "t" and str(gtid).startswith(SNAPSHOT))
    info = SourceInfo(
        source.server_uuid,
        source.server_id,
        schema.database,
        schema.table,
        unix_epoch() + timedelta(microseconds=source.ts_us),
        gtid,
        source.file,
        source.pos,
        source.row,
        order,
        is_read,
    )
    return DecodedChange(envelope, images, Change(envelope.op, rows[0], rows[1], info))


class EnvelopeBatch(LazyBatch):
    """A batch of few changes as Python values, as handlers get them."""

    __slots__ = ("_changes", "_seqs")
    _changes: Sequence[DecodedChange]
    _seqs: Sequence[int]

    def __init__(self, schema: TableSchema, changes: Sequence[DecodedChange], seqs: Sequence[int], size: int) -> None:
        """`changes` are of one server, and their images have the same columns; `size`: bytes of their messages."""
        source = changes[0].view.source
        uuid, number = source.server_uuid, source.server_id
        self._set(schema=schema, server_uuid=uuid, server_id=number, _changes=changes, _seqs=seqs, _nbytes=size)

    def to_columns(self) -> ChangeBatch:
        """See LazyBatch."""
        nothing = (None,) * len(self.schema.columns)
        before, after = (
            list(zip(*[change.images[k] or nothing for change in self._changes], strict=True)) for k in (0, 1)
        )
        envelopes = [change.envelope for change in self._changes]
        return build_columns(self.schema, envelopes, (before, after), pa.array(self._seqs, pa.int64()))

    @property
    def holds_python_values(self) -> bool:
        """See ChangeBatch."""
        return True

    def __len__(self) -> int:
        return len(self._changes)

    def slice(self, start: int, stop: int) -> ChangeBatch:
        """See ChangeBatch."""
        changes = self._changes[start:stop]
        if not changes:
            return self._as_columns().slice(start, stop)
        size = self.nbytes * len(changes) // len(self)
        return EnvelopeBatch(self.schema, changes, self._seqs[start:stop], size)

    def with_seqs(self, seqs: Iterable[int]) -> ChangeBatch:
        """See ChangeBatch."""
        numbers = [number for number, _ in zip(map(int, seqs), self._changes, strict=True)]
        return EnvelopeBatch(self.schema, self._changes, numbers, self.nbytes)

    def count_ops(self) -> dict[str, int]:
        """See ChangeBatch."""
        return Counter(change.view.op for change in self._changes)

    def source_values(self, row: int) -> SourceValues:
        """See ChangeBatch."""
        change = self._changes[row]
        source, info = change.envelope.source, change.view.source
        return SourceValues(
            source.ts_us, info.gtid, info.file, info.pos, info.row, source.txn_pos, info.order, self._seqs[row]
        )

    def changes(self) -> Iterator[RowChange]:
        """See ChangeBatch."""
        copy = image_reader(self.schema).copy
        for change in self._changes:
            view = change.view
            before, after = (None if image is None else copy(image) for image in (view.before, view.after))
            yield Change(view.op, before, after, view.source)
