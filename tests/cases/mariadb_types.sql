-- What only MariaDB has: UUID, INET4, INET6, and columns that are stored compressed.
-- servers: mariadb, mariadb_10

CREATE TABLE clients (id INT PRIMARY KEY, u UUID, a4 INET4, a6 INET6, raw BINARY(16));

-- UUID and INET6 are BINARY(16) to the binlog, INET4 is BINARY(4); the server is asked which they are.
INSERT INTO clients VALUES (1, '123e4567-e89b-12d3-a456-426655440000', '192.168.0.1', '2001:db8::ff00:42:8329', x'123e4567');
-- -> {"op": "c", "after": {"id":1,"u":"123e4567-e89b-12d3-a456-426655440000","a4":"192.168.0.1","a6":"2001:db8::ff00:42:8329","raw":"Ej5FZwAAAAAAAAAAAAAAAA=="}}
INSERT INTO clients VALUES (2, '00000000-0000-0000-0000-000000000000', '0.0.0.0', '::', NULL);
-- -> {"op": "c", "after": {"id":2,"u":"00000000-0000-0000-0000-000000000000","a4":"0.0.0.0","a6":"::","raw":null}}
INSERT INTO clients VALUES (3, NULL, NULL, '::ffff:192.168.0.1', NULL);
-- -> {"op": "c", "after": {"id":3,"u":null,"a4":null,"a6":"::ffff:192.168.0.1","raw":null}}
UPDATE clients SET a6 = '::1' WHERE id = 3;
-- -> {"op": "u", "before": {"id":3,"u":null,"a4":null,"a6":"::ffff:192.168.0.1","raw":null}, "after": {"id":3,"u":null,"a4":null,"a6":"::1","raw":null}}
DELETE FROM clients WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"u":"00000000-0000-0000-0000-000000000000","a4":"0.0.0.0","a6":"::","raw":null}}

CREATE TABLE pages (id INT PRIMARY KEY, v VARCHAR(500) COMPRESSED, t TEXT COMPRESSED CHARACTER SET latin1, b BLOB COMPRESSED);

INSERT INTO pages VALUES (1, REPEAT('grün ', 30), REPEAT('Ä', 120), REPEAT(x'00ff', 60));
-- -> {"op": "c", "after": {"id":1,"v":"grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün grün ","t":"ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ","b":"AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/AP8A/wD/"}}
INSERT INTO pages VALUES (2, 'short', '', NULL);
-- -> {"op": "c", "after": {"id":2,"v":"short","t":"","b":null}}
UPDATE pages SET v = 'ä' WHERE id = 2;
-- -> {"op": "u", "before": {"id":2,"v":"short","t":"","b":null}, "after": {"id":2,"v":"ä","t":"","b":null}}
