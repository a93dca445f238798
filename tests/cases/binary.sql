-- BINARY and BLOB are base64. BINARY(n) has its n bytes, though the binlog leaves out the zeros at its end.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE files (id INT PRIMARY KEY, b BINARY(5), v VARBINARY(20), d BLOB);

INSERT INTO files VALUES (1, 'ab', 'ab', x'00ff');
-- -> {"op": "c", "after": {"id":1,"b":"YWIAAAA=","v":"YWI=","d":"AP8="}}
INSERT INTO files VALUES (2, x'', x'', x'');
-- -> {"op": "c", "after": {"id":2,"b":"AAAAAAA=","v":"","d":""}}
INSERT INTO files VALUES (3, x'6100', x'6100', x'616263');
-- -> {"op": "c", "after": {"id":3,"b":"YQAAAAA=","v":"YQA=","d":"YWJj"}}
UPDATE files SET b = NULL WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"b":"YWIAAAA=","v":"YWI=","d":"AP8="}, "after": {"id":1,"b":null,"v":"YWI=","d":"AP8="}}
DELETE FROM files WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"b":"AAAAAAA=","v":"","d":""}}
