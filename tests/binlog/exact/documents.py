"""Samples of JSON."""

from __future__ import annotations

from tests.binlog.exact.type_sample import MARIADB, MARIADB_10, MYSQL, TypeSample

_JSON = (
    "'null'", "'true'", "'false'", "'0'", "'-1'", "'32767'", "'32768'", "'-32769'", "'65535'", "'65536'",
    "'2147483647'", "'2147483648'", "'-2147483649'", "'4294967296'", "'9223372036854775807'",
    "'9223372036854775808'", "'18446744073709551615'", "'-9223372036854775808'",
    "'1.0'", "'0.1'", "'-0.0'", "'1e308'", "'1e-308'", "'5e-324'", "'1.7976931348623157e308'",
    "'100000000000000000000'",
    "'1e15'", "'1e16'", "'123456789012345680000.5'", "'0.000001'", "'0.0000001'", "'1e-10'", "'1e-15'", "'1e-16'",
    "'1.5e-16'", "'12345.678901e-20'", "'3.141592653589793'", "'1e17'", "'1e18'", "'123456789.125e10'", "'2e22'",
    "'\"\"'", "'\"text\"'", "'\"\\\\\"quoted\\\\\" \\\\\\\\ \\\\n \\\\t \\\\u0001 \\\\u007f /\"'",
    "'\"\u00e4\u20ac\U0001f600\"'", "'[]'", "'{}'", "'[1, \"a\", null, true, 2.5]'",
    "'{\"b\": 1, \"a\": {\"c\": [1, 2, {\"d\": null}]}}'", "'{\"\": 0, \"\u00e4\": \"\u00f6\", \"bb\": 1, \"a\": 2}'",
    "JSON_ARRAY(repeat('long', 20000))", "JSON_OBJECT('k', repeat('x', 200), 'big', repeat('y', 70000))",
    "JSON_ARRAY(CAST(123456.789 AS DECIMAL(20,10)), CAST(-0.5 AS DECIMAL(65,30)), CAST(7 AS DECIMAL(5,0)))",
    "JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('12:34:56.789012' AS TIME(6)), CAST('-838:59:59' AS TIME))",
    "JSON_ARRAY(CAST('2024-02-29 12:34:56.123456' AS DATETIME(6)), CAST('0000-00-00' AS DATE))",
    "JSON_ARRAY(CAST('-00:00:00.000001' AS TIME(6)), CAST('00:00:00' AS TIME), TIMESTAMP'2024-01-01 00:00:00')",
    "CAST(x'00ff61' AS JSON)", "JSON_ARRAY(b'101', x'616263', CAST('a' AS BINARY))", "CAST(CAST(2024 AS YEAR) AS JSON)",
    "JSON_ARRAY(ST_GeomFromText('POINT(1 2)'), CAST(x'e28882' AS CHAR CHARACTER SET utf8mb4))",
    "JSON_OBJECT('d', DATE'9999-12-31', 't', TIME'23:59:59.999999', 's', TIMESTAMP'1000-01-01 00:00:00.000001')",
    "JSON_ARRAY(b'1', b'1111111100000000', x'')",
    "JSON_ARRAY(CAST('-99999999999999999999999999999999999.123456789012345678901234567890' AS DECIMAL(65,30)))",
    "JSON_OBJECT('u', CAST(18446744073709551615 AS UNSIGNED), 'f', CAST(1.5 AS FLOAT), 'b', 1 = 1)",
)  # fmt: skip


def _jsons() -> list[TypeSample]:
    nested = "'" + "[" * 60 + "]" * 60 + "'"
    wide = "JSON_ARRAY(" + ",".join(f"'v{i}'" for i in range(300)) + ")"
    # MySQL's limit is a depth of 100, which Python's parser can read.
    text = ('\'{"b":  1, "a":[1.0,  2]}\'', "'null'", "'\"x\"'")
    return [
        TypeSample("JSON", "json", (*_JSON, nested, wide), (MYSQL,)),
        TypeSample("JSON", "json text", text, (MARIADB, MARIADB_10)),
    ]


DOCUMENTS = tuple(_jsons())
