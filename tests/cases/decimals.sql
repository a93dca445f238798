-- DECIMAL is a string with exactly its scale, so that no JSON parser rounds it.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE prices (id INT PRIMARY KEY, p DECIMAL(10,2), whole DECIMAL(20,0), wide DECIMAL(65,30));

INSERT INTO prices VALUES (1, 12.5, 12345678901234567890, 1);
-- -> {"op": "c", "after": {"id":1,"p":"12.50","whole":"12345678901234567890","wide":"1.000000000000000000000000000000"}}
INSERT INTO prices VALUES (2, -0.01, -99999999999999999999, -12345678901234567890123456789012345.123456789012345678901234567890);
-- -> {"op": "c", "after": {"id":2,"p":"-0.01","whole":"-99999999999999999999","wide":"-12345678901234567890123456789012345.123456789012345678901234567890"}}
INSERT INTO prices VALUES (3, 0, 0, 0.000000000000000000000000000001);
-- -> {"op": "c", "after": {"id":3,"p":"0.00","whole":"0","wide":"0.000000000000000000000000000001"}}
INSERT INTO prices VALUES (4, NULL, NULL, NULL);
-- -> {"op": "c", "after": {"id":4,"p":null,"whole":null,"wide":null}}
UPDATE prices SET p = p * 2 WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"p":"12.50","whole":"12345678901234567890","wide":"1.000000000000000000000000000000"}, "after": {"id":1,"p":"25.00","whole":"12345678901234567890","wide":"1.000000000000000000000000000000"}}
DELETE FROM prices WHERE id = 3;
-- -> {"op": "d", "before": {"id":3,"p":"0.00","whole":"0","wide":"0.000000000000000000000000000001"}}
