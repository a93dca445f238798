"""Samples of integers, FLOAT, DOUBLE, DECIMAL, BIT and YEAR, at the limits of each."""

from __future__ import annotations

from tests.binlog.exact.type_sample import MARIADB, MARIADB_10, TypeSample


def _int_edges(bits: int, *, unsigned: bool) -> tuple[str, ...]:
    if unsigned:
        return tuple(str(v) for v in (0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1))
    return tuple(str(v) for v in (-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 8))))


def _integers() -> list[TypeSample]:
    widths = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
    found = [TypeSample(name, "integer", _int_edges(bits, unsigned=False)) for name, bits in widths.items()]
    found.append(TypeSample("INT(8) ZEROFILL", "zerofill", ("0", "42", "4294967295")))
    return found + [
        TypeSample(f"{name} UNSIGNED", "integer", _int_edges(bits, unsigned=True)) for name, bits in widths.items()
    ]


def _decimals() -> list[TypeSample]:
    shapes = [(1, 0), (1, 1), (5, 0), (5, 5), (9, 0), (9, 9), (10, 2), (18, 9), (18, 0), (19, 2), (20, 10), (30, 30)]
    shapes += [(38, 0), (38, 19), (39, 1), (56, 28), (65, 0), (65, 30), (31, 30), (35, 3)]
    found = []
    for precision, scale in shapes:
        whole = precision - scale
        most = ("9" * whole or "0") + ("." + "9" * scale if scale else "")
        least = "0." + "0" * (scale - 1) + "1" if scale else "1"
        digits = ("123456789" * 8)[:whole] or "0"
        mixed = digits + ("." + ("987654321" * 8)[:scale] if scale else "")
        values = (most, f"-{most}", "0", "-0", least, f"-{least}", mixed, f"-{mixed}")
        found.append(TypeSample(f"DECIMAL({precision},{scale})", "decimal", values))
    found.append(TypeSample("DECIMAL(10,2) UNSIGNED", "decimal", ("0", "12345678.91", "0.01")))
    return [*found, TypeSample("DECIMAL(8,3) ZEROFILL", "zerofill decimal", ("0", "12.5"))]


def _floats() -> list[TypeSample]:
    floats = (
        "0",
        "-0e0",
        "0.1",
        "-1.5",
        "3.4028234e38",
        "-3.4028234e38",
        "1.17549435e-38",
        "1e-45",
        "16777217",
        "1e10",
    )
    doubles = (
        "0",
        "-0e0",
        "0.1",
        "1e308",
        "-1.7976931348623157e308",
        "5e-324",
        "2.2250738585072014e-308",
        "123456789.125",
    )
    return [
        TypeSample("FLOAT", "float", floats),
        TypeSample("FLOAT UNSIGNED", "float", ("0", "1.25")),
        TypeSample("DOUBLE", "double", (*doubles, "1e22", "1e-7", "0.30000000000000004")),
        TypeSample("DOUBLE(10,3)", "double", ("1.5", "-2.125")),
        TypeSample("FLOAT(7,3)", "float", ("1.5", "-2.125", "9999.999", "0.1")),
    ]


def _bits() -> list[TypeSample]:
    found = []
    for width in (1, 2, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 56, 63, 64):
        values = sorted({0, 1, 2**width - 1, 2 ** (width - 1), 0x0123456789ABCDEF & (2**width - 1)})
        found.append(TypeSample(f"BIT({width})", "bit", tuple(str(value) for value in values)))
    return found


_MOST_SCALE = ("0." + "9" * 38, "-0." + "0" * 37 + "1", "0")

NUMBERS = (
    *_integers(),
    *_floats(),
    *_decimals(),
    *_bits(),
    # The maximum scale is 38 in MariaDB, and 30 in MySQL.
    TypeSample("DECIMAL(65,38)", "decimal", (*_MOST_SCALE, "-" + "9" * 27 + ".5"), (MARIADB, MARIADB_10)),
    TypeSample("DECIMAL(38,38)", "decimal", _MOST_SCALE, (MARIADB, MARIADB_10)),
    TypeSample("YEAR", "year", ("0", "1901", "2155", "2000", "1999", "'0000'")),
)
