"""TableSchema: JSON round trips, a permanent fingerprint, and one Arrow type for each MySQL type."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binlogsync.errors import DecodeError, WireError
from binlogsync.schema import ADDRESS_TYPES, BINARY_TYPES, INTEGER_BITS, TEXT_TYPES, Column, TableSchema, arrow_type
from tests.samples import sample_row, sample_schema

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
numbers = st.none() | st.integers(0, 65535)
columns = st.builds(
    Column,
    names,
    st.sampled_from(sorted({*INTEGER_BITS, *TEXT_TYPES, *BINARY_TYPES, "decimal", "bit", "enum", "set", "vector"})),
    nullable=st.booleans(),
    unsigned=st.booleans(),
    length=numbers,
    precision=st.none() | st.integers(1, 65),
    scale=st.none() | st.integers(0, 30),
    fsp=numbers,
    charset=st.none() | st.just("utf8mb4"),
    labels=st.lists(names, max_size=3).map(tuple),
    visible=st.booleans(),
)
schemas = st.builds(
    TableSchema,
    names,
    names,
    st.lists(columns, max_size=4, unique_by=lambda column: column.name).map(tuple),
    st.lists(names, max_size=2).map(tuple),
)


@given(schemas)
def test_a_schema_is_read_as_written(schema: TableSchema) -> None:
    text = schema.to_json()
    assert "\n" not in text
    for form in (text, text.encode()):
        again = TableSchema.from_json(form)
        assert (again, again.fingerprint, hash(again)) == (schema, schema.fingerprint, hash(schema))


@given(schemas, schemas)
def test_equal_fingerprints_mean_equal_schemas(a: TableSchema, b: TableSchema) -> None:
    assert (a.fingerprint == b.fingerprint) == (a == b)


def test_every_attribute_counts_in_the_fingerprint() -> None:
    column = Column("c", "int")
    changed = [
        replace(column, **{name: value})  # type: ignore[arg-type]
        for name, value in {
            "name": "d",
            "type": "bigint",
            "nullable": False,
            "unsigned": True,
            "length": 1,
            "precision": 1,
            "scale": 1,
            "fsp": 1,
            "charset": "x",
            "labels": ("a",),
            "visible": False,
        }.items()
    ]
    schemas = [TableSchema("shop", "t", (each,)) for each in (column, *changed)]
    schemas += [
        TableSchema("shop", "u", (column,)),
        TableSchema("s", "t", (column,)),
        replace(schemas[0], primary_key=("c",)),
    ]
    assert len({schema.fingerprint for schema in schemas}) == len(changed) + 4


def test_a_fingerprint_is_the_same_in_every_release() -> None:
    schema = TableSchema(
        "shop", "orders", (Column("id", "bigint", nullable=False, unsigned=True), Column("höhe", "float")), ("id",)
    )
    assert schema.fingerprint == "9539b1505bc0a31e"


@pytest.mark.parametrize(
    "text",
    ["", "null", "7", "[]", "{}", b"\xff", '{"database":"d","table":"t","primary_key":[],"columns":[{"name":"c"}]}']
    + [
        json.dumps(
            {
                "database": "d",
                "table": "t",
                "primary_key": [],
                "columns": [{"name": "c", "type": "int", "labels": [], "x": 1}],
            }
        )
    ],
)
def test_text_that_is_not_a_schema_is_refused(text: str | bytes) -> None:
    with pytest.raises(WireError, match="not a table schema"):
        TableSchema.from_json(text)


def test_the_samples_have_every_type() -> None:
    types = {column.type for column in sample_schema().columns}
    others = {
        "decimal",
        "bit",
        "json",
        "float",
        "double",
        "date",
        "datetime",
        "timestamp",
        "time",
        "year",
        "enum",
        "set",
        "vector",
        "geometry",  # of GEOMETRY_TYPES, which are alike
    }
    assert types == {*INTEGER_BITS, *TEXT_TYPES, *BINARY_TYPES, *ADDRESS_TYPES, *others}


@pytest.mark.parametrize("number", [0, 1, 7, 100, 5000])
def test_arrow_returns_the_sample_values(number: int) -> None:
    row = sample_row(number)
    assert pa.array([row], sample_schema().image_type()).to_pylist() == [row]


@pytest.mark.parametrize(
    ("column", "expected", "declaration"),
    [
        (Column("c", "tinyint"), pa.int8(), "tinyint"),
        (Column("c", "mediumint", unsigned=True), pa.uint32(), "mediumint unsigned"),
        (Column("c", "bigint", unsigned=True), pa.uint64(), "bigint unsigned"),
        (Column("c", "decimal", precision=10, scale=2), pa.decimal128(10, 2), "decimal(10,2)"),
        (Column("c", "decimal", precision=38, scale=0, unsigned=True), pa.decimal128(38, 0), "decimal(38,0) unsigned"),
        (Column("c", "decimal", precision=39, scale=30), pa.decimal256(39, 30), "decimal(39,30)"),
        (Column("c", "varchar", length=20), pa.string(), "varchar(20)"),
        (Column("c", "varbinary", length=20), pa.binary(), "varbinary(20)"),
        (Column("c", "json"), pa.string(), "json"),
        (Column("c", "bit", length=1), pa.bool_(), "bit(1)"),
        (Column("c", "bit", length=2), pa.uint64(), "bit(2)"),
        (Column("c", "datetime", fsp=6), pa.timestamp("us"), "datetime(6)"),
        (Column("c", "timestamp", fsp=0), pa.timestamp("us", "UTC"), "timestamp"),
        (Column("c", "time"), pa.duration("us"), "time"),
        (Column("c", "year"), pa.uint16(), "year"),
        (Column("c", "enum", labels=("a", "b'c")), pa.dictionary(pa.int16(), pa.string()), "enum('a','b''c')"),
        (Column("c", "set", labels=("a",)), pa.list_(pa.string()), "set('a')"),
        (Column("c", "vector", length=3), pa.list_(pa.float32()), "vector(3)"),
        (Column("c", "polygon"), pa.struct([("srid", pa.uint32()), ("wkb", pa.binary())]), "polygon"),
        (Column("c", "inet6"), pa.string(), "inet6"),
    ],
)
def test_the_arrow_type_of_each_mysql_type(column: Column, expected: pa.DataType, declaration: str) -> None:
    assert (arrow_type(column), column.declaration) == (expected, declaration)


def test_an_enum_of_many_labels_has_wider_numbers() -> None:
    assert arrow_type(Column("c", "enum", labels=tuple(map(str, range(32768))))).index_type == pa.int32()
    assert arrow_type(Column("c", "enum", labels=tuple(map(str, range(32767))))).index_type == pa.int16()


def test_a_type_without_an_arrow_type_is_refused() -> None:
    with pytest.raises(DecodeError, match="location: columns of type type 99 are not supported"):
        arrow_type(Column("location", "type 99"))


def test_an_image_holds_all_columns_or_the_named_ones_in_table_order() -> None:
    schema = sample_schema()
    assert [field.name for field in schema.image_type()] == [column.name for column in schema.columns]
    assert [field.name for field in schema.image_type(("c_json", "id"))] == ["id", "c_json"]
    assert all(field.nullable for field in schema.image_type())


def test_a_column_is_found_by_name() -> None:
    assert sample_schema().column("c_set").type == "set"
    with pytest.raises(KeyError):
        sample_schema().column("C_SET")
