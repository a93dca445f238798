"""Decodes the row events of one table, with one schema and one set of columns, into the images of a ChangeBatch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from binlogsync.binlog import rows
from binlogsync.binlog.arena import Arena, aligned_size
from binlogsync.binlog.columns import ColumnBuffers, build_array, decode_method, is_compressed, skip_method, value_width
from binlogsync.binlog.tablemap import TableMap
from binlogsync.binlog.types.temporal import impossible_text
from binlogsync.binlog.types.text import OVERRUN
from binlogsync.binlog.visible_tables import VisibleTable
from binlogsync.schema import Column, TableSchema, arrow_type

Image = Literal["before", "after"]
IMAGES: tuple[Image, Image] = ("before", "after")
Impossible = dict[tuple[Image, str], pa.StringArray]
CREATE, UPDATE, DELETE = 0, 1, 2
_PAGE = 4096


class ColumnError(ValueError):
    """A value of a column cannot be decoded; `event` is the number of its event among those decoded together."""

    def __init__(self, reason: str, column: str, event: int) -> None:
        super().__init__(reason)
        self.column = column
        self.event = event


def _rounded(size: int) -> int:
    """The size rounded up to one of few sizes, so that released memory fits again."""
    unit = max(1 << 14, 1 << max(size.bit_length() - 4, 0))
    return -(-size // unit) * unit


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Decoded rows of several events: number of rows of each event, op of each row, both images, impossible dates."""

    counts: npt.NDArray[np.int64]
    ops: npt.NDArray[np.int8]
    images: tuple[pa.StructArray, pa.StructArray]
    impossible: Impossible


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The before or the after image: its columns in order, and how the kernel decodes each."""

    columns: tuple[Column, ...]
    methods: rows.Table
    least: int = field(init=False)
    widths: tuple[int, ...] = field(init=False)
    kernel: rows.ImageSpec = field(init=False)
    dates: int = field(init=False)
    kind: pa.StructType | None = field(init=False)

    def __post_init__(self) -> None:
        sizes = [int(method[rows.SIZE]) for method, c in zip(self.methods, self.columns, strict=True) if not c.nullable]
        object.__setattr__(self, "least", max(1, (len(self.columns) + 7) // 8 + sum(sizes)))
        skipped = np.isin(self.methods[:, rows.CODE], (rows.SKIP, rows.SKIP_BYTES)).any()
        kind = None if skipped else pa.struct([pa.field(c.name, arrow_type(c)) for c in self.columns])
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "dates", int(np.isin(self.methods[:, rows.CODE], rows.DATES).sum()))
        object.__setattr__(self, "widths", tuple(value_width(tuple(method)) for method in self.methods.tolist()))
        object.__setattr__(self, "kernel", rows.ImageSpec(self.methods, np.array(self.widths, np.int64)))

    @classmethod
    def of(cls, table: TableMap, present: tuple[int, ...], *, captured: bool) -> ImageLayout:
        """The image with the columns numbered `present`; raises ColumnError for a type that cannot be decoded."""
        methods = []
        for i in present:
            column, raw = table.schema.columns[i], table.raw[i]
            try:
                methods.append(decode_method(column, raw) if captured else skip_method(column, raw))
            except ValueError as error:
                raise ColumnError(str(error), column.name, 0) from error
        columns = tuple(table.schema.columns[i] for i in present)
        return cls(columns, np.array(methods, np.int64).reshape(-1, 4))

    def string_bytes(self, method: npt.NDArray[np.int64], event_bytes: int, count: int) -> int:
        """Most bytes that a column of strings can take: recoding may triple the size, BINARY is padded to its width."""
        if method[rows.CODE] == rows.RECODED:
            return 3 * event_bytes + 4
        return count * int(method[rows.B]) if method[rows.CODE] == rows.PADDED else event_bytes

    def bytes_to_reserve(self, count: int, event_bytes: int) -> int:
        """Bytes of memory to reserve for `count` rows from `event_bytes` bytes of events."""
        total = 0
        for method, width in zip(self.methods, self.widths, strict=True):
            if width:
                total += aligned_size(count * width) + aligned_size((count + 7) // 8)
            elif rows.BYTES <= method[rows.CODE] < rows.SKIP_BYTES:
                text_bytes = self.string_bytes(method, event_bytes, count) + OVERRUN
                total += aligned_size(text_bytes) + aligned_size(4 * (count + 1)) + aligned_size((count + 7) // 8)
        return total

    def allocate_targets(self, arena: Arena, count: int, event_bytes: int) -> rows.Table:
        """Allocate memory for every column: the target table of the kernel."""
        targets = np.zeros((len(self.columns), 6), np.int64)
        for method, width, target in zip(self.methods, self.widths, targets, strict=True):
            if width:
                target[rows.VALUES] = arena.take(count * width)
            elif rows.BYTES <= method[rows.CODE] < rows.SKIP_BYTES:
                target[rows.VALUES] = arena.take(self.string_bytes(method, event_bytes, count) + OVERRUN)
                target[rows.OFFSETS] = arena.take(4 * (count + 1))
                arena.view(int(target[rows.OFFSETS]), 1, np.int32)[0] = 0
            else:
                continue
            target[rows.VALID] = arena.take((count + 7) // 8)
        return targets

    def written_bytes(self, targets: rows.Table, count: int) -> int:
        """Bytes that were written for `count` rows, in whole pages."""
        fixed = sum(self.widths) * count + int(targets[:, rows.USED].sum())
        return fixed + (5 * count + 3 * _PAGE) * len(self.columns)

    def build_struct(self, arena: Arena, targets: rows.Table, missing: npt.NDArray[np.bool_]) -> pa.StructArray:
        """The struct array of this image; NULL in rows whose operation does not have the image."""
        count = len(missing)
        children = []
        for column, method, target in zip(self.columns, self.methods.tolist(), targets.tolist(), strict=True):
            if target[rows.USED] > rows.STRING_LIMIT:
                raise ColumnError("more than 2 GiB of text in one event are not supported", column.name, 0)
            try:
                written = ColumnBuffers(arena, target, count, compressed=is_compressed(method))
                children.append(build_array(column, written))
            except (ValueError, pa.ArrowInvalid) as error:
                raise ColumnError(str(error), column.name, 0) from error
        nulls = int(missing.sum())
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little")) if nulls else None
        return pa.Array.from_buffers(self.kind, count, [validity], nulls, children=children)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of both images of a table's rows. Rows of a table that is not `captured` are counted and skipped."""

    schema: TableSchema
    images: tuple[ImageLayout, ImageLayout]
    captured: bool
    visible_table: VisibleTable | None = None

    @classmethod
    def of(cls, table: TableMap, present: tuple[tuple[int, ...], tuple[int, ...]], *, captured: bool) -> Layout:
        """A layout with the columns numbered `present` in the before and the after image; raises ColumnError."""
        before, after = (ImageLayout.of(table, numbers, captured=captured) for numbers in present)
        return cls(table.schema, (before, after), captured, table.visible_table)

    def decode(
        self,
        base: int,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        ops: npt.NDArray[np.int8],
        *,
        is_one_memory: bool = True,
    ) -> DecodedRows:
        """Decode all rows of the events at `starts` to `ends`, relative to address `base`; raises ColumnError.

        `is_one_memory`: all bytes from the first event to the last can be read.
        """
        try:
            return self._decode(base, starts, ends, ops, is_one_memory=is_one_memory)
        except ColumnError:
            # An error that occurs while whole columns are built does not name the event: decode each event separately.
            for n in range(len(starts) if len(starts) > 1 else 0):
                try:
                    self._decode(base, starts[n : n + 1], ends[n : n + 1], ops[n : n + 1], is_one_memory=True)
                except ColumnError as error:
                    raise ColumnError(str(error), error.column, n) from error
            raise

    def _decode(
        self,
        base: int,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        ops: npt.NDArray[np.int8],
        *,
        is_one_memory: bool,
    ) -> DecodedRows:
        event_bytes = _rounded(int((ends - starts).sum()))
        most = event_bytes // min(image.least for image in self.images) + 1
        size = sum(image.bytes_to_reserve(most, event_bytes) for image in self.images) + self._date_list_bytes(most)
        arena = Arena(size, (self.images[0].widths, self.images[1].widths))
        targets = tuple(image.allocate_targets(arena, most, event_bytes) for image in self.images)
        date_list = arena.take(self._date_list_bytes(most))
        arena.view(date_list, 1, np.int64)[0] = 0
        specs = (self.images[0].kernel, self.images[1].kernel)
        counts = rows.decode_rows(
            base, (starts, ends, ops), specs, (targets[0], targets[1]), date_list, most, is_one_memory=is_one_memory
        )
        if isinstance(counts, rows.DecodeFault):
            columns = self.images[counts.image].columns
            column = columns[counts.column].name if columns and counts.status != rows.DecodeStatus.TOO_MANY else ""
            raise ColumnError(rows.REASONS[counts.status], column, counts.event)
        row_ops = np.repeat(ops, counts)
        arena.record_written(
            sum(image.written_bytes(target, len(row_ops)) for image, target in zip(self.images, targets, strict=True))
        )
        if not self.captured:
            nothing = pa.array([], pa.struct([]))
            return DecodedRows(counts, row_ops, (nothing, nothing), {})
        before = self.images[0].build_struct(arena, targets[0], row_ops == CREATE)
        after = self.images[1].build_struct(arena, targets[1], row_ops == DELETE)
        listed = int(arena.view(date_list, 1, np.int64)[0])
        impossible = arena.view(date_list + 8, 4 * listed, np.int64).reshape(-1, 4)
        return DecodedRows(counts, row_ops, (before, after), self._texts(impossible, len(row_ops)))

    def _date_list_bytes(self, count: int) -> int:
        """Bytes for the list of impossible dates in `count` rows."""
        return aligned_size(32 * count * (self.images[0].dates + self.images[1].dates) + 8)

    def _texts(self, impossible: npt.NDArray[np.int64], count: int) -> Impossible:
        """The impossible dates as MySQL prints them, by image and column."""
        texts: dict[tuple[Image, str], list[str | None]] = {}
        for image, k, row, packed in impossible.tolist():
            column = self.images[image].columns[k]
            values = texts.setdefault((IMAGES[image], column.name), [None] * count)
            values[row] = impossible_text(packed, column.type, column.fsp or 0)
        return {key: pa.array(values, pa.string()) for key, values in texts.items()}
