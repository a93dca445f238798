"""mysql-replication returns the same values, except for the samples that WRONG lists."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.binlog.dump import end_of_log
from tests.binlog.exact.compare import OLD_FORMAT, as_text, settings
from tests.binlog.exact.second_oracle import WRONG, expected, inserts, is_wrong, texts
from tests.binlog.exact.type_sample import MARIADB, MYSQL, TypeSample
from tests.binlog.exact.type_samples import TYPE_SAMPLES
from tests.binlog.exact.value_kinds import KINDS
from tests.databases import FreshDatabase

Texts = list[str | None]
pytestmark = pytest.mark.filterwarnings("ignore:'db' is deprecated:DeprecationWarning")  # raised in its own code


def _insert(database: FreshDatabase, name: str, sample: TypeSample) -> Texts:
    """Create a table with the sample's values and NULL; returns what SELECT returns."""
    before, after = OLD_FORMAT if sample.old else ("DO 0", "DO 0")
    database.execute(before)
    database.execute(f"CREATE TABLE {name} (id INT PRIMARY KEY, v {sample.ddl} NULL) CHARACTER SET utf8mb4")
    database.execute(after)
    literals = (*sample.literals, "NULL")
    database.execute(f"INSERT INTO {name} VALUES {','.join(f'({i},{value})' for i, value in enumerate(literals))}")
    kind = KINDS[sample.kind]
    rows = database.execute(f"SELECT {kind.select.format(v='v')} FROM {name} ORDER BY id")
    return [None if value is None else kind.expected(as_text(value)) for (value,) in rows]


def _check(database: FreshDatabase, samples: list[TypeSample], report: list[str], *, mariadb: bool) -> None:
    start = end_of_log(database.server).position
    with settings(database):
        results = [_insert(database, f"s{i}", sample) for i, sample in enumerate(samples)]
    found = inserts(database.server, start, database.name, mariadb=mariadb)
    wrong: list[TypeSample] = []
    agreed = 0
    for i, (sample, selected) in enumerate(zip(samples, results, strict=True)):
        if texts(sample, found.get(f"s{i}", "nothing")) == expected(sample, selected):
            agreed += len(selected)
        else:
            wrong.append(sample)
    report.append(
        f"mysql-replication on {'MariaDB' if mariadb else 'MySQL'}: {agreed:,} values of "
        f"{len(samples) - len(wrong)} samples agree, {len(wrong)} samples are wrong"
    )
    names = {sample.name for sample in wrong}  # several samples may have one name
    assert sorted(names) == sorted({sample.name for sample in samples if is_wrong(sample)})


def test_on_mysql(mysql: FreshDatabase, report: list[str]) -> None:
    _check(mysql, [sample for sample in TYPE_SAMPLES if MYSQL in sample.servers], report, mariadb=False)


def test_on_what_only_mariadb_has(mariadb: FreshDatabase, report: list[str]) -> None:
    samples = [sample for sample in TYPE_SAMPLES if MARIADB in sample.servers and MYSQL not in sample.servers]
    _check(mariadb, samples, report, mariadb=True)


@pytest.mark.parametrize("pattern", [pattern for patterns in WRONG.values() for pattern in patterns])
def test_each_pattern_names_a_sample(pattern: str) -> None:
    assert any(fnmatchcase(sample.name, pattern) for sample in TYPE_SAMPLES)
