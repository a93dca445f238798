-- MariaDB's JSON is text that was checked, a LONGTEXT to its binlog: a string with the very blanks that were written.
-- servers: mariadb, mariadb_10

CREATE TABLE documents (id INT PRIMARY KEY, j JSON);

INSERT INTO documents VALUES (1, '{"b":  [1, 2.50, null]}'), (2, 'null'), (3, NULL);
-- -> {"op": "c", "after": {"id":1,"j":"{\"b\":  [1, 2.50, null]}"}}
-- -> {"op": "c", "after": {"id":2,"j":"null"}}
-- -> {"op": "c", "after": {"id":3,"j":null}}
UPDATE documents SET j = JSON_SET(j, '$.a', 'new') WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"j":"{\"b\":  [1, 2.50, null]}"}, "after": {"id":1,"j":"{\"b\": [1, 2.50, null], \"a\": \"new\"}"}}
DELETE FROM documents WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"j":"null"}}
