-- Whole numbers, signed and unsigned, FLOAT, DOUBLE and YEAR.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE numbers (id INT PRIMARY KEY, t TINYINT, s SMALLINT UNSIGNED, m MEDIUMINT, b BIGINT UNSIGNED, z INT(6) ZEROFILL);

-- The edges of each; a zero-filled number is a number.
INSERT INTO numbers VALUES (1, -128, 65535, -8388608, 18446744073709551615, 42);
-- -> {"op": "c", "after": {"id":1,"t":-128,"s":65535,"m":-8388608,"b":18446744073709551615,"z":42}}
INSERT INTO numbers VALUES (2, 127, 0, 8388607, 9223372036854775808, 4294967295);
-- -> {"op": "c", "after": {"id":2,"t":127,"s":0,"m":8388607,"b":9223372036854775808,"z":4294967295}}

-- NULL is null.
INSERT INTO numbers (id) VALUES (3);
-- -> {"op": "c", "after": {"id":3,"t":null,"s":null,"m":null,"b":null,"z":null}}
UPDATE numbers SET t = 0, b = 1 WHERE id = 3;
-- -> {"op": "u", "before": {"id":3,"t":null,"s":null,"m":null,"b":null,"z":null}, "after": {"id":3,"t":0,"s":null,"m":null,"b":1,"z":null}}
DELETE FROM numbers WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"t":127,"s":0,"m":8388607,"b":9223372036854775808,"z":4294967295}}

CREATE TABLE floats (id INT PRIMARY KEY, f FLOAT, d DOUBLE, y YEAR);

-- A FLOAT has the fewest digits that read back to the same FLOAT; SELECT would print 16777216 as 16777200.
INSERT INTO floats VALUES (1, 0.1, 0.1, 2024);
-- -> {"op": "c", "after": {"id":1,"f":0.1,"d":0.1,"y":2024}}
INSERT INTO floats VALUES (2, 16777216, 123456789.125, 1901);
-- -> {"op": "c", "after": {"id":2,"f":16777216,"d":123456789.125,"y":1901}}
INSERT INTO floats VALUES (3, 3.4028234e38, 1.7976931348623157e308, 2155);
-- -> {"op": "c", "after": {"id":3,"f":3.4028235e+38,"d":1.7976931348623157e+308,"y":2155}}
INSERT INTO floats VALUES (4, -1.5e-10, 5e-324, 0);
-- -> {"op": "c", "after": {"id":4,"f":-1.5e-10,"d":5e-324,"y":0}}
