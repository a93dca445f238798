"""Models generated from tables: the source compiles, passes type checks, fits the table, and accepts its rows."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args

import pytest

from binlogsync.models.codegen import Kind, class_name, model_source
from binlogsync.models.model import Model, table_name
from binlogsync.schema import Column, TableSchema
from tests.samples import sample_batch, sample_schema

ROOT = Path(__file__).parents[2]
KINDS: tuple[Kind, ...] = get_args(Kind)
ODD = TableSchema(
    "odd-db",
    'odd "names"',
    tuple(
        Column(name, "int", nullable=False)
        for name in (
            "id",
            "class",
            "order-no",
            "1st",
            "größe",
            "_hidden",
            "__dunder",
            "copy",
            "model_x",
            "str",
            "datetime",
        )
    ),
)


def load(source: str) -> Any:
    """The class in the generated source of a model, executed like a module."""
    module = types.ModuleType("made_model")
    sys.modules["made_model"] = module
    exec(compile(source, "made_model.py", "exec"), vars(module))
    [cls] = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == "made_model"]
    return cls


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_every_type_fits_its_table_and_takes_its_rows(kind: Kind) -> None:
    cls = load(model_source(sample_schema(), kind))
    assert table_name(cls) == "shop.samples"
    model: Model[Any] = Model(cls)
    assert [field.column for field in model.fields] == [column.name for column in sample_schema().columns]
    model.check(sample_schema())
    for change in sample_batch(8).changes():
        raw = change.after or change.before
        image: Any = model.row(raw)
        assert raw is not None
        assert (image.id, image.c_decimal, image.c_timestamp) == (raw["id"], raw["c_decimal"], raw["c_timestamp"])


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_cannot_be_fields(kind: Kind) -> None:
    cls = load(model_source(ODD, kind))
    model: Model[Any] = Model(cls)
    model.check(ODD)
    columns = {field.column for field in model.fields}
    if kind == "dataclass":
        assert columns == {"id", "größe", "_hidden", "copy", "model_x"}
    else:
        assert columns == {column.name for column in ODD.columns}
        assert model.row({column.name: n for n, column in enumerate(ODD.columns)}) is not None


def test_what_a_model_looks_like() -> None:
    schema = TableSchema(
        "treehole",
        "holes",
        (
            Column("id", "bigint", nullable=False, unsigned=True),
            Column("content", "text", charset="utf8mb4"),
            Column("price", "decimal", nullable=False, precision=10, scale=2),
            Column("order-no", "int", nullable=False),
        ),
        ("id",),
    )
    assert model_source(schema) == (
        "import decimal\n"
        "from dataclasses import dataclass\n"
        "\n\n"
        "@dataclass(frozen=True, slots=True)\n"
        "class Hole:\n"
        '    """A row of treehole.holes, primary key id."""\n'
        "\n"
        '    __tablename__ = "treehole.holes"\n'
        "\n"
        "    id: int  # bigint unsigned\n"
        "    content: str | None  # text\n"
        "    price: decimal.Decimal  # decimal(10,2)\n"
        "    # 'order-no' (int) cannot be a field here; --kind msgspec renames it\n"
    )
    assert '    order_no: int = msgspec.field(name="order-no")  # int\n' in model_source(schema, "msgspec")


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("holes", "Hole"),
        ("order_items", "OrderItem"),
        ("categories", "Category"),
        ("addresses", "Address"),
        ("news", "New"),
        ("status", "Status"),
        ("press", "Press"),
        ("2024-data", "T2024Data"),
        ("树洞", "树洞"),
        ("field", "FieldRow"),
        ("...", "Row"),
    ],
)
def test_the_name_of_the_class(table: str, name: str) -> None:
    assert class_name(table) == name


@pytest.mark.slow
def test_models_pass_a_strict_type_check(tmp_path: Path) -> None:
    for kind in KINDS:
        for number, schema in enumerate((sample_schema(), ODD)):
            (tmp_path / f"{kind}_{number}.py").write_text(model_source(schema, kind))
    (tmp_path / "handler.py").write_text(_PROGRAM)
    done = subprocess.run(
        # With the settings of `make lint`, whose cache saves most of the work.
        [sys.executable, "-m", "mypy", *map(str, sorted(tmp_path.glob("*.py")))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = (tmp_path / "handler.py").read_text().splitlines()
    expected = [number for number, line in enumerate(lines, 1) if "# wrong" in line]
    assert [int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line] == expected, done.stdout
    # mypy may name an equal file in the folder of an earlier run, whose result it has in its cache.
    assert f'/{tmp_path.name}/handler.py:16: note: Revealed type is "str | None"' in done.stdout
    assert 'Item "None" of "HoleRecord | None" has no attribute "content"' in done.stdout


_PROGRAM = """\
from dataclasses import dataclass

from binlogsync import Change, Consumer


@dataclass(frozen=True, slots=True)
class HoleRecord:
    id: int
    content: str | None


def on_hole(change: Change[HoleRecord]) -> None:
    change.after.content  # wrong: after may be None
    if change.after is not None:
        change.after.contents  # wrong: no such field
        reveal_type(change.after.content)
        change.after.content.upper()  # wrong: content may be None


async def on_holes(changes: list[Change[HoleRecord]]) -> None:
    print([change.id for change in changes])


def on_number(change: Change[int]) -> None: ...


consumer = Consumer("client1", url="nats://127.0.0.1:4222")
consumer.register(HoleRecord, on_hole, table="treehole.holes")
consumer.register(HoleRecord, on_holes)
consumer.register(HoleRecord, on_number)  # wrong: a handler of another model
consumer.run()
"""
