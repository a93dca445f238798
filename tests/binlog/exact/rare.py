"""Samples of GEOMETRY, VECTOR, and the types that only MariaDB has."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tests.binlog.exact.type_sample import MARIADB, MARIADB_10, MYSQL, TypeSample

_SHAPES = {
    "POINT": ("POINT(1 2)", "POINT(-180 90)", "POINT(0.1 -0.0)"),
    "LINESTRING": ("LINESTRING(0 0,1 1,2 4)",),
    "POLYGON": ("POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 2,1 1))",),
    "MULTIPOINT": ("MULTIPOINT(0 0,1 1)",),
    "MULTILINESTRING": ("MULTILINESTRING((0 0,1 1),(2 2,3 3,4 4))",),
    "MULTIPOLYGON": ("MULTIPOLYGON(((0 0,4 0,4 4,0 4,0 0)),((5 5,6 5,6 6,5 5)))",),
    "GEOMETRYCOLLECTION": (
        "GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1),GEOMETRYCOLLECTION(POINT(3 4)))",
        "GEOMETRYCOLLECTION EMPTY",
    ),
}


def _geometries() -> list[TypeSample]:
    """Each subtype in a separate column, and all in one GEOMETRY column, with and without a reference system."""
    found = []
    everything: list[str] = []
    for kind, texts in _SHAPES.items():
        values = [f"ST_GeomFromText('{text}')" for text in texts]
        values += [f"ST_GeomFromText('{text}', {srid})" for text in texts for srid in (4326, 3857)]
        # MySQL rejects longitudes and latitudes out of range, in the axis order of the SRS.
        values = [value for value in values if not ("-180 90" in value and "4326" in value)]
        found.append(TypeSample(kind, "geometry", tuple(values)))
        everything += values
    long = "ST_GeomFromText(CONCAT('LINESTRING(', REPEAT('1.5 2.25,', 5000), '3 4)'))"
    return [*found, TypeSample("GEOMETRY", "geometry", (*everything, long))]


_NUMBERS = (
    (1.0, 2.0, 3.0),
    (-0.0, 0.0, 1e-45),
    (3.4028234e38, -3.4028234e38, 1.17549435e-38),
    (0.1, 0.2, 16777217.0),
)
_WORDS = ("''", "'a'", "repeat('long enough to be compressed ', 50)", "repeat('\u00e4\U0001f600', 300)", "'a  '")
_BYTES = ("x''", "x'00'", "repeat(x'00ff', 300)", "x'789c'", "repeat(x'0102030405060708', 20000)")
_UUIDS = (
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "123e4567-e89b-12d3-a456-426655440000",  # version 1: the server swaps its parts in storage
    "123e4567-e89b-62d3-8456-426655440000",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "c37d2640-5a1c-4b0e-8f00-0000000000ab",
)
_INET6 = (
    "::", "::1", "1::", "::ffff:1.2.3.4", "::1.2.3.4", "::ffff:0:0", "2001:db8::ff00:42:8329", "1:0:2:0:3:0:4:0",
    "1:2:3:4:5:6:7:8", "0:0:1:0:0:0:1:0", "1:0:0:2:0:0:3:4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "0:1:2:3:4:5:6:7", "1:2:3:4:5:6:7:0", "::2:3:4:5:6:7:8", "fe80::1:0:0:1", "::fffe:1.2.3.4", "0:0:0:0:0:1:2:3",
)  # fmt: skip


def _compressed() -> list[TypeSample]:
    found = []
    for charset in ("utf8mb4", "latin1", "utf16"):
        words = tuple(word for word in _WORDS if charset != "latin1" or "\U0001f600" not in word)
        for kind in ("VARCHAR(1300)", "TEXT", "LONGTEXT"):
            found.append(TypeSample(f"{kind} COMPRESSED CHARACTER SET {charset}", "text", words, (MARIADB, MARIADB_10)))
    found += [
        TypeSample("VARCHAR(63) COMPRESSED CHARACTER SET utf8mb4", "text", _WORDS[:2], (MARIADB, MARIADB_10)),
        TypeSample("VARCHAR(64) COMPRESSED CHARACTER SET utf8mb4", "text", _WORDS[:2], (MARIADB, MARIADB_10)),
        TypeSample("TINYTEXT COMPRESSED", "text", ("''", "repeat('y', 255)", "'z'"), (MARIADB, MARIADB_10)),
    ]
    for kind in ("VARBINARY(60000)", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"):
        values = _BYTES if kind in ("MEDIUMBLOB", "LONGBLOB") else _BYTES[: 2 if kind == "TINYBLOB" else 4]
        found.append(TypeSample(f"{kind} COMPRESSED", "binary", values, (MARIADB, MARIADB_10)))
    return found


def _vector(numbers: Sequence[float]) -> str:
    return f"x'{struct.pack(f'<{len(numbers)}f', *numbers).hex()}'"


def _quoted(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"'{value}'" for value in values)


RARE = (
    *_geometries(),
    TypeSample("VECTOR(3)", "vector", (*map(_vector, _NUMBERS), _vector((1.5,)), "TO_VECTOR('[1,-2.25]')"), (MYSQL,)),
    TypeSample("VECTOR", "vector", (_vector([k / 8 for k in range(2048)]),), (MYSQL,)),
    TypeSample("VECTOR(3)", "vector", (*map(_vector, _NUMBERS), "VEC_FromText('[1,-2.25,3e10]')"), (MARIADB,)),
    TypeSample("VECTOR(300)", "vector", (_vector([k / 8 for k in range(300)]),), (MARIADB,)),
    TypeSample("UUID", "address", (*_quoted(_UUIDS), "uuid()"), (MARIADB, MARIADB_10)),
    TypeSample("INET6", "address", _quoted(_INET6), (MARIADB, MARIADB_10)),
    TypeSample(
        "INET4", "address", _quoted(("0.0.0.0", "255.255.255.255", "192.168.0.1", "1.0.0.0")), (MARIADB, MARIADB_10)
    ),
    TypeSample("BINARY(16)", "binary", ("x''", "x'00'", "repeat(x'ff', 16)", "'123e4567'"), (MARIADB, MARIADB_10)),
    TypeSample("BINARY(4)", "binary", ("x''", "x'7f000001'", "x'0a'"), (MARIADB, MARIADB_10)),
    TypeSample("VARBINARY(12)", "binary", ("x''", "x'0000803f0000803f0000803f'"), (MARIADB, MARIADB_10)),
    *_compressed(),
)
