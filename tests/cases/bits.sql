-- BIT(1) is a boolean, BIT(n) a number.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE bits (id INT PRIMARY KEY, flag BIT(1), mask BIT(9), wide BIT(64));

INSERT INTO bits VALUES (1, b'1', b'100000001', 18446744073709551615);
-- -> {"op": "c", "after": {"id":1,"flag":true,"mask":257,"wide":18446744073709551615}}
INSERT INTO bits VALUES (2, b'0', 0, 0), (3, NULL, NULL, NULL);
-- -> {"op": "c", "after": {"id":2,"flag":false,"mask":0,"wide":0}}
-- -> {"op": "c", "after": {"id":3,"flag":null,"mask":null,"wide":null}}
UPDATE bits SET flag = NOT flag WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"flag":true,"mask":257,"wide":18446744073709551615}, "after": {"id":1,"flag":false,"mask":257,"wide":18446744073709551615}}
DELETE FROM bits WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"flag":false,"mask":0,"wide":0}}
