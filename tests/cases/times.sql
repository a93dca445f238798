-- DATE, DATETIME, TIMESTAMP and TIME, with as many digits of fraction as the column has.
-- servers: mysql, mariadb, mariadb_10

SET time_zone = '+02:00';
CREATE TABLE times (id INT PRIMARY KEY, d DATE, dt DATETIME(3), ts TIMESTAMP(6) NULL, t TIME, t6 TIME(6));

-- A TIMESTAMP is in UTC, which Z says; a DATETIME is what was written, in no time zone.
INSERT INTO times VALUES (1, '2024-02-29', '2024-02-29 12:00:00.5', '2024-02-29 12:00:00.5', '12:34:56', '00:00:00.000001');
-- -> {"op": "c", "after": {"id":1,"d":"2024-02-29","dt":"2024-02-29T12:00:00.500","ts":"2024-02-29T10:00:00.500000Z","t":"12:34:56","t6":"00:00:00.000001"}}

-- TIME reaches from -838:59:59 to 838:59:59; a negative fraction is as exact as any.
INSERT INTO times VALUES (2, '0001-01-01', '9999-12-31 23:59:59.999', '1970-01-01 02:00:01', '-838:59:59', '-00:00:00.000001');
-- -> {"op": "c", "after": {"id":2,"d":"0001-01-01","dt":"9999-12-31T23:59:59.999","ts":"1970-01-01T00:00:01.000000Z","t":"-838:59:59","t6":"-00:00:00.000001"}}
INSERT INTO times VALUES (3, '9999-12-31', '1000-01-01', '2038-01-19 05:14:07.999999', '838:59:59', '-12:34:56.789');
-- -> {"op": "c", "after": {"id":3,"d":"9999-12-31","dt":"1000-01-01T00:00:00.000","ts":"2038-01-19T03:14:07.999999Z","t":"838:59:59","t6":"-12:34:56.789000"}}
UPDATE times SET t6 = '-00:00:01.5' WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"d":"2024-02-29","dt":"2024-02-29T12:00:00.500","ts":"2024-02-29T10:00:00.500000Z","t":"12:34:56","t6":"00:00:00.000001"}, "after": {"id":1,"d":"2024-02-29","dt":"2024-02-29T12:00:00.500","ts":"2024-02-29T10:00:00.500000Z","t":"12:34:56","t6":"-00:00:01.500000"}}
DELETE FROM times WHERE id = 3;
-- -> {"op": "d", "before": {"id":3,"d":"9999-12-31","dt":"1000-01-01T00:00:00.000","ts":"2038-01-19T03:14:07.999999Z","t":"838:59:59","t6":"-12:34:56.789000"}}
