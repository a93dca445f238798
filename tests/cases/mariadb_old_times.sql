-- Temporal columns that MariaDB made before 10.1, or makes with this setting, until their table is rebuilt.
-- servers: mariadb, mariadb_10

SET GLOBAL mysql56_temporal_format = OFF;
CREATE TABLE times (id INT PRIMARY KEY, t TIME, t3 TIME(3), dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ts2 TIMESTAMP(2) NULL);
SET GLOBAL mysql56_temporal_format = ON;

INSERT INTO times VALUES (1, '-12:34:56', '-00:00:00.001', '2024-02-29 12:00:00', '2024-02-29 12:00:00.123456', '2024-02-29 12:00:00', '2024-02-29 12:00:00.25');
-- -> {"op": "c", "after": {"id":1,"t":"-12:34:56","t3":"-00:00:00.001","dt":"2024-02-29T12:00:00","dt6":"2024-02-29T12:00:00.123456","ts":"2024-02-29T12:00:00Z","ts2":"2024-02-29T12:00:00.25Z"}}
INSERT INTO times VALUES (2, '838:59:59', '-838:59:59.999', '9999-12-31 23:59:59', '0001-01-01', NULL, NULL);
-- -> {"op": "c", "after": {"id":2,"t":"838:59:59","t3":"-838:59:59.999","dt":"9999-12-31T23:59:59","dt6":"0001-01-01T00:00:00.000000","ts":null,"ts2":null}}
UPDATE times SET t3 = NULL WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"t":"-12:34:56","t3":"-00:00:00.001","dt":"2024-02-29T12:00:00","dt6":"2024-02-29T12:00:00.123456","ts":"2024-02-29T12:00:00Z","ts2":"2024-02-29T12:00:00.25Z"}, "after": {"id":1,"t":"-12:34:56","t3":null,"dt":"2024-02-29T12:00:00","dt6":"2024-02-29T12:00:00.123456","ts":"2024-02-29T12:00:00Z","ts2":"2024-02-29T12:00:00.25Z"}}
DELETE FROM times WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"t":"838:59:59","t3":"-838:59:59.999","dt":"9999-12-31T23:59:59","dt6":"0001-01-01T00:00:00.000000","ts":null,"ts2":null}}
