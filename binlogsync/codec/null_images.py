"""Images of changes that have none on one side: of inserts before, and of deletes after."""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from binlogsync.schema import TableSchema, arrow_type

_FEW_ROWS = 16


def null_images(schema: TableSchema, rows: int) -> pa.StructArray:
    """A struct of all columns that is NULL in each row."""
    return _few_images(schema, rows) if rows <= _FEW_ROWS else _make_images(schema, rows)


@lru_cache(maxsize=1024)
def _few_images(schema: TableSchema, rows: int) -> pa.StructArray:
    """Kept, because to build them costs as much as to decode a row."""
    return _make_images(schema, rows)


@lru_cache(maxsize=1024)
def image_fields(schema: TableSchema) -> list[pa.Field]:
    """The columns of an image."""
    return [pa.field(column.name, arrow_type(column)) for column in schema.columns]


def _make_images(schema: TableSchema, rows: int) -> pa.StructArray:
    fields = image_fields(schema)
    images = pa.nulls(rows, pa.struct(fields))  # all its columns share one buffer
    if all(column.type != "enum" for column in schema.columns):
        return images
    arrays = [images.field(number) for number in range(len(fields))]
    for number, column in enumerate(schema.columns):
        if column.type == "enum":  # its dictionary has the labels, also without a value
            indices = pa.nulls(rows, fields[number].type.index_type)
            arrays[number] = pa.DictionaryArray.from_arrays(indices, pa.array(column.labels, pa.string()))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=images.is_null())
