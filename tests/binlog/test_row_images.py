"""binlog_row_image: a column that is not in the image is an absent key, unlike NULL."""

from __future__ import annotations

from typing import Any

import pytest

from tests.binlog.dump import end_of_log, record
from tests.databases import FreshDatabase

_TABLE = "CREATE TABLE t (id INT PRIMARY KEY, n INT, v VARCHAR(5) DEFAULT 'd', t TEXT, b BLOB)"
_STATEMENTS = (
    "INSERT INTO t (id, n, t) VALUES (1, NULL, 'text')",
    "UPDATE t SET n = 5",
    "UPDATE t SET t = NULL, b = x'00'",
    "DELETE FROM t",
)
_MINIMAL = [
    (None, {"id": 1, "n": None, "t": "text"}),
    ({"id": 1}, {"n": 5}),
    ({"id": 1}, {"t": None, "b": b"\0"}),
    ({"id": 1}, None),
]
_NOBLOB = [
    (None, {"id": 1, "n": None, "v": "d", "t": "text"}),
    ({"id": 1, "n": None, "v": "d"}, {"id": 1, "n": 5, "v": "d"}),
    ({"id": 1, "n": 5, "v": "d"}, {"id": 1, "n": 5, "v": "d", "t": None, "b": b"\0"}),
    ({"id": 1, "n": 5, "v": "d"}, None),
]


@pytest.mark.server
@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize(("image", "expected"), [("MINIMAL", _MINIMAL), ("NOBLOB", _NOBLOB)])
def test_images_have_the_columns_of_the_setting(
    request: pytest.FixtureRequest, flavor: str, compression: bool, image: str, expected: list[Any]
) -> None:
    database: FreshDatabase = request.getfixturevalue(flavor)
    setting = "SESSION binlog_transaction_compression" if flavor == "mysql" else "GLOBAL log_bin_compress"
    start = end_of_log(database.server)
    database.execute(f"SET SESSION binlog_row_image = {image}")
    database.execute(f"SET {setting} = {compression}")
    try:
        for statement in (_TABLE, *_STATEMENTS):
            database.execute(statement)
    finally:
        database.execute(f"SET {setting} = OFF")
    changes = record(database.server, start, lambda name, table: name == database.name).changes()
    assert [(change.before, change.after) for change in changes] == expected
