"""The lists and bitmaps in a TABLE_MAP that count only some of the columns: signs, character sets, labels, kinds of
geometry, dimensions, the primary key, visibility.

If the server counts a type and the reader does not, or the other way round, the reader assigns wrong metadata to all
columns after it. So each type is placed between columns of every kind, and all are compared with the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from binlogsync.mysql.config import connect
from binlogsync.mysql.information_schema import describe_table
from binlogsync.schema import TableSchema
from tests.binlog.dump import config_of, end_of_log, record
from tests.binlog.exact.compare import OLD_FORMAT, SETTINGS
from tests.binlog.exact.type_sample import TypeSample
from tests.binlog.exact.type_samples import TYPE_SAMPLES
from tests.databases import FreshDatabase

_LEVELS = ("FULL", "MINIMAL", "NO_LOG")
LEVELS = {"mysql": _LEVELS[:2], "mariadb": _LEVELS, "mariadb_10": _LEVELS}

# Name: type, literal, value.
_AROUND: dict[str, tuple[str, str, object]] = {
    "t": ("TINYINT", "-1", -1),
    "tu": ("TINYINT UNSIGNED", "255", 255),
    "s": ("SMALLINT", "-1", -1),
    "su": ("SMALLINT UNSIGNED", "65535", 65535),
    "m": ("MEDIUMINT", "-1", -1),
    "mu": ("MEDIUMINT UNSIGNED", "16777215", 16777215),
    "i": ("INT", "-1", -1),
    "iu": ("INT UNSIGNED", "4294967295", 4294967295),
    "b": ("BIGINT", "-1", -1),
    "bu": ("BIGINT UNSIGNED", "18446744073709551615", 18446744073709551615),
    "f": ("FLOAT", "-0.5", -0.5),
    "du": ("DOUBLE UNSIGNED", "0.5", 0.5),
    "d": ("DOUBLE", "-0.5", -0.5),
    "nu": ("DECIMAL(3,0) UNSIGNED", "7", 7),
    "n": ("DECIMAL(3,0)", "-7", -7),
    "i2": ("INT INVISIBLE", "-2", -2),
    "c1": ("CHAR(9) CHARACTER SET latin1", "'ä'", "ä"),
    "c2": ("VARCHAR(9) CHARACTER SET koi8r", "'ю'", "ю"),
    "c3": ("TEXT CHARACTER SET cp1250", "'ř'", "ř"),
    "c4": ("VARBINARY(9)", "'z'", b"z"),
    "c5": ("LONGTEXT CHARACTER SET greek", "'Ω'", "Ω"),
    "e1": ("ENUM('ä', 'b') CHARACTER SET latin1", "'ä'", "ä"),
    "e2": ("SET('ю') CHARACTER SET koi8r", "'ю'", ["ю"]),
    "e3": ("ENUM('ř') CHARACTER SET cp1250", "'ř'", "ř"),
    "e4": ("SET('Ω', 'x') CHARACTER SET greek", "'Ω,x'", ["Ω", "x"]),
    "g1": ("POINT", "NULL", None),
    "g2": ("POLYGON", "NULL", None),
}
_VECTORS = {"v1": ("VECTOR(7)", "NULL", None), "v2": ("VECTOR(9)", "NULL", None)}


def _around(side: str, vectors: bool, letters: str) -> dict[str, tuple[str, str, object]]:
    """The columns on one side; with `letters`, most texts have that character set, which is then the logged default."""
    more = {f"l{k}": (f"VARCHAR(9) CHARACTER SET {letters}", "'q'", "q") for k in range(8 if letters else 0)}
    more |= {f"m{k}": (f"ENUM('q') CHARACTER SET {letters}", "'q'", "q") for k in range(8 if letters else 0)}
    return {side + name: what for name, what in (_AROUND | more | (_VECTORS if vectors else {})).items()}


def _chosen(server: str) -> Iterator[TypeSample]:
    """One sample of each type and sign."""
    seen = set()
    for sample in TYPE_SAMPLES:
        key = (sample.type, "UNSIGNED" in sample.ddl, "COMPRESSED" in sample.ddl, sample.old)
        if server in sample.servers and key not in seen and len(sample.ddl) < 200 and sample.width < 6000:
            seen.add(key)
            yield sample


def _create(
    database: FreshDatabase, name: str, sample: TypeSample, letters: str, vectors: bool
) -> tuple[str, dict[str, object]]:
    """CREATE TABLE, INSERT, and the expected values of the columns around the sample."""
    before, after = _around("a_", vectors, letters), _around("z_", vectors, letters)
    columns = {**before, "c": (sample.ddl, sample.literals[0], None), **after}
    switch = OLD_FORMAT if sample.old else ("DO 0", "DO 0")
    declared = ", ".join(
        f"{column} {what[0]}" + ("" if column in ("z_m", "a_iu") else " NULL") for column, what in columns.items()
    )
    database.execute(switch[0])
    database.execute(f"CREATE TABLE {name} ({declared}, PRIMARY KEY (z_m, a_iu))")
    database.execute(switch[1])
    values = ", ".join(what[1] for what in columns.values())
    wanted = {column: what[2] for column, what in columns.items() if column != "c"}
    return f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({values})", wanted


@pytest.mark.server
@pytest.mark.parametrize("server", ["mysql", "mariadb", pytest.param("mariadb_10", marks=pytest.mark.exhaustive)])
def test_no_type_shifts_the_metadata_of_other_columns(request: pytest.FixtureRequest, server: str) -> None:
    database: FreshDatabase = request.getfixturevalue(server)
    for setting in SETTINGS:
        database.execute(setting)
    vectors = server != "mariadb_10"
    work = {}
    for k, sample in enumerate(_chosen(server)):  # every second table has the other format of character sets
        work[f"t{k}"] = (sample, *_create(database, f"t{k}", sample, "cp1251" if k % 2 else "", vectors))
    assert len(work) > 40
    declared = _declared(database, list(work))
    # With FULL, MariaDB logs everything except which columns are invisible.
    silent = {name: _all_visible(schema) for name, schema in declared.items()}
    for level in LEVELS[server]:
        chosen = {name: what for k, (name, what) in enumerate(work.items()) if level == "FULL" or k % 6 == 0}
        chosen |= {name: what for name, what in work.items() if what[0].type == "year"}
        schemas, rows = _logged(database, [what[1] for what in chosen.values()], level)
        for name, (sample, _, wanted) in chosen.items():
            said = silent if server != "mysql" and level == "FULL" else declared
            pairs = zip(schemas[name].columns, said[name].columns, strict=True)
            assert [pair for pair in pairs if pair[0] != pair[1]] == [], (level, sample.name)
            assert schemas[name].primary_key == declared[name].primary_key == ("z_m", "a_iu"), (level, sample.name)
            got = {column: rows[name][column] for column in wanted}
            assert got == wanted, (level, sample.name)


def _logged(
    database: FreshDatabase, inserts: Sequence[str], level: str
) -> tuple[dict[str, TableSchema], dict[str, Mapping[str, object]]]:
    """By table, the logged schema and row; deletes the rows afterwards."""
    database.execute(f"SET GLOBAL binlog_row_metadata = {level}")
    start = end_of_log(database.server)
    database.execute("BEGIN")
    for insert in inserts:
        database.execute(insert)
    database.execute("COMMIT")
    done = record(database.server, start, lambda name, _: name == database.name).decoded()
    database.execute("SET GLOBAL binlog_row_metadata = FULL")
    for insert in inserts:
        database.execute(f"DELETE FROM {insert.split()[2]}")
    assert done.error is None, (level, done.error)
    schemas = {batch.schema.table: batch.schema for decoded_range in done.ranges for batch in decoded_range.batches}
    return schemas, {change.source.table: change.after or {} for change in done.changes}


def _all_visible(schema: TableSchema) -> TableSchema:
    return replace(schema, columns=tuple(replace(column, visible=True) for column in schema.columns))


def _declared(database: FreshDatabase, names: list[str]) -> dict[str, TableSchema]:
    config = config_of(database.server)
    connection = connect(config)
    try:
        return {name: describe_table(config, connection, database.name, name) for name in names}
    finally:
        connection.close()
