"""Results with damaged packets end in an error of this package; sound ones give the same rows, however they arrive."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pymysql
import pytest

from binlogsync.mysql.result_set import TableRows
from tests.binlog.damage import dump_of
from tests.examples import examples
from tests.mysql.result_set.damage import END, SCHEMA, read, row_of, sample

_COUNT = 100


@pytest.mark.generated
def test_damaged_packets_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.mysql.result_set.damage", "--count", str(examples(_COUNT))]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def rows_of(batches: list[TableRows]) -> list[dict[str, object]]:
    """All values, impossible dates as text."""
    found = []
    for batch in batches:
        for k, row in enumerate(batch.image.to_pylist()):
            found.append(row | {name: texts[k].as_py() or row[name] for name, texts in batch.impossible.items()})
    return found


def test_the_rows_do_not_depend_on_how_they_arrive() -> None:
    chance = random.Random(7)
    values = [sample(chance) for _ in range(300)]
    raw = dump_of([*map(row_of, values), END])
    read_at_once = rows_of(read(raw, random.Random(1)))
    assert rows_of(read(raw, random.Random(2), batch_rows=13)) == read_at_once
    plain = [
        c.name for c in SCHEMA.columns if c.name in ("i8", "i24", "i64", "f", "y", "d5", "d17", "d18", "d38", "d65")
    ]
    assert [[row[name] for name in plain] for row in read_at_once] == [row[: len(plain)] for row in values]
    dates = {(2024, 2, 31): "2024-02-31", (): "0000-00-00"}
    for row, sent in zip(read_at_once, values, strict=True):
        day = sent[len(plain)]
        assert (row["day"] if day in (None, *dates) else str(row["day"])) == dates.get(day, day and "2024-02-29")


def test_a_server_that_shuts_down_sends_an_error_outside_of_the_sequence() -> None:
    raw = dump_of([row_of(sample(random.Random(1)))]) + dump_of([b"\xff\x87\x07#70100Connection was killed"])
    with pytest.raises(pymysql.OperationalError, match="closed the connection"):
        read(raw, random.Random(1))
