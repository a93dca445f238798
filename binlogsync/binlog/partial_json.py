"""Converts the rows of a PARTIAL_UPDATE_ROWS event to those of an UPDATE_ROWS event.

With binlog_row_value_options=PARTIAL_JSON an after image may contain, instead of a JSON value, its differences from the
value in the before image. This module applies them, so that the kernels decode the row like any other.

Source: Rows_event and Table_map_event in libs/mysql/binlog/event/rows_event.h; Bit_reader and unpack_row in
sql/rpl_record.cc.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from binlogsync.binlog import rows
from binlogsync.binlog.layout import ColumnError, ImageLayout, Layout
from binlogsync.binlog.tablemap import JSON, TableMap
from binlogsync.binlog.types.jsondiff import apply_diffs

_PARTIAL_JSON = 1
_LENGTH = 4  # size of the length prefix of a JSON value, or of its differences
_NEXT_STEP = (
    "run: SET GLOBAL binlog_row_value_options = '', or SET GLOBAL binlog_row_image = 'FULL', let open sessions "
    "reconnect, and start after these rows with a new snapshot of the table, or exclude it with a filter"
)


@dataclass(frozen=True, slots=True)
class PartialJsonRows:
    """Converts such rows: `layout` is the layout of the converted rows, `table` the TABLE_MAP of the event."""

    layout: Layout
    table: TableMap

    def restore(self, data: bytes) -> bytes:
        """The rows with complete JSON values. Raises ValueError, ColumnError."""
        at, out = 0, bytearray()
        before, after = self.layout.images
        json = [i for i, raw in enumerate(self.table.raw) if raw.code == JSON]
        while at < len(data):
            documents: dict[str, bytes] = {}
            begin = at
            for name, start, stop in self._values(before, data, at):
                at = stop
                if name:
                    documents[name] = data[start + _LENGTH : stop]
            out += data[begin:at]
            options, at = data[at], at + 1
            if options > _PARTIAL_JSON:
                raise ValueError(f"value options {options:#x} are not known")
            partial: set[str] = set()
            if options:
                bits = data[at : at + (len(json) + 7) // 8]
                at += len(bits)
                columns = self.table.schema.columns
                partial = {columns[i].name for k, i in enumerate(json) if bits[k // 8] >> k % 8 & 1}
            for name, start, stop in self._values(after, data, at):
                at = stop
                if name in partial and self.layout.captured:
                    document = _after(documents, name, data[start + _LENGTH : stop])
                    out += len(document).to_bytes(_LENGTH, "little") + document
                else:
                    out += data[start:stop]
        return bytes(out)

    def _values(self, image: ImageLayout, data: bytes, at: int) -> Iterator[tuple[str, int, int]]:
        """(name, begin, end) of the NULL bits, then of each value that is not NULL. Only JSON columns have a name."""
        bits, count = at, len(image.columns)
        at += (count + 7) // 8
        if at > len(data):
            raise ValueError("the row ends inside its NULL bits")
        yield "", bits, at
        for k in range(count):
            if data[bits + k // 8] >> k % 8 & 1:
                continue
            begin, size = at, int(image.methods[k, rows.SIZE])
            at += size
            if image.methods[k, rows.CODE] >= rows.BYTES:
                at += int.from_bytes(data[begin:at], "little")
            if at > len(data):
                raise ColumnError(rows.REASONS[rows.DecodeStatus.TRUNCATED], image.columns[k].name, 0)
            yield (image.columns[k].name if image.columns[k].type == "json" else ""), begin, at


def _after(documents: dict[str, bytes], name: str, diffs: bytes) -> bytes:
    """The value after the update."""
    if name not in documents:
        reason = (
            "the update contains only the differences of a JSON value, and the before image does not have the value"
        )
        raise ColumnError(f"{reason}; {_NEXT_STEP}", name, 0)
    try:
        return apply_diffs(documents[name], diffs)
    except ValueError as error:
        raise ColumnError(str(error), name, 0) from error
