-- Zero and impossible dates are their text. In Arrow and in a mirror they are NULL, and counted.
-- servers: mysql, mariadb, mariadb_10

SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00';
CREATE TABLE dates (id INT PRIMARY KEY, d DATE, dt DATETIME(2), ts TIMESTAMP NULL, y YEAR);

INSERT INTO dates VALUES (1, '0000-00-00', '0000-00-00', '0000-00-00', '0000');
-- -> {"op": "c", "after": {"id":1,"d":"0000-00-00","dt":"0000-00-00 00:00:00.00","ts":"0000-00-00 00:00:00","y":0}}
INSERT INTO dates VALUES (2, '2024-02-31', '2024-00-10 10:20:30.25', NULL, NULL);
-- -> {"op": "c", "after": {"id":2,"d":"2024-02-31","dt":"2024-00-10 10:20:30.25","ts":null,"y":null}}
UPDATE dates SET d = '2024-03-01' WHERE id = 2;
-- -> {"op": "u", "before": {"id":2,"d":"2024-02-31","dt":"2024-00-10 10:20:30.25","ts":null,"y":null}, "after": {"id":2,"d":"2024-03-01","dt":"2024-00-10 10:20:30.25","ts":null,"y":null}}
DELETE FROM dates WHERE id = 1;
-- -> {"op": "d", "before": {"id":1,"d":"0000-00-00","dt":"0000-00-00 00:00:00.00","ts":"0000-00-00 00:00:00","y":0}}
