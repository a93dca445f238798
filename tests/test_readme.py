"""README.md and docs/ are up to date: files, links, make targets, variables, types, speeds; their Python compiles."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import readme, report
from binlogsync.schema import INTEGER_BITS, Column, arrow_type
from binlogsync.targets.duckdb.column_types import duck_type
from tests.binlog.exact.type_samples import TYPE_SAMPLES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = "\n".join(page.read_text() for page in PAGES)
TYPES = (ROOT / "docs/types.md").read_text().split("| --- | --- | --- | --- |")[1]
_DETAILS: dict[str, dict[str, Any]] = {
    "decimal": {"precision": 10, "scale": 2},
    "bit": {"length": 1},
    **dict.fromkeys(("enum", "set"), {"labels": ("a",)}),
    **dict.fromkeys(("datetime", "timestamp", "time"), {"fsp": 6}),
}
SAMPLED = sorted({sample.type for sample in TYPE_SAMPLES})
SAMPLES = [Column("x", kind, **_DETAILS.get(kind, {})) for kind in SAMPLED]


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"`((?:tests|(?:dagster_)?binlogsync|pipelines|resources|sensors|bench)/[\w./]+)`", README))),
)
def test_named_files_exist(path: str) -> None:
    assert (ROOT / path).exists()


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_named_variables_are_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    assert [name for name in re.findall(r"BINLOGSYNC_[A-Z_]+[A-Z]", README) if name not in example] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert [target for target in targets if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_readme_links_to_each_page(page: Path) -> None:
    assert f"(docs/{page.name})" in PAGES[0].read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_blocks_compile(block: str) -> None:
    compile(block, "README.md", "exec")


def test_speeds_are_those_of_the_last_benchmark() -> None:
    assert readme.table(json.loads(report.RESULTS.read_text())) in README, "run: python -m bench.readme"


def test_the_table_has_the_types_that_are_compared_with_select() -> None:
    named = {
        name
        for line in TYPES.splitlines()
        for name in re.findall(r"`(\w+)(?:\([\w,]+\))?`", line.partition("|")[2].partition("|")[0])
    }
    assert sorted(named) == SAMPLED


@pytest.mark.parametrize("column", SAMPLES, ids=lambda column: column.type)
def test_every_type_is_in_the_table(column: Column) -> None:
    """Each type has a row with the name of its Arrow type in the third column and of its DuckDB type in the fourth."""
    row = next(line for line in TYPES.splitlines() if re.search(rf"`{column.type}[`(]", line))
    _, _, _, arrow, duck, _ = row.split("|")
    if column.type not in INTEGER_BITS:
        name = re.split(r"[<(\[]", str(arrow_type(column)))[0]
        assert {"float": "float32", "double": "float64"}.get(name, name) in arrow
        assert re.split(r"[(\[]", duck_type(column))[0] in duck
