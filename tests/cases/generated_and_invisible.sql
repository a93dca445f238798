-- Generated columns, stored or virtual, and invisible ones are in the row as all others are.
-- servers: mysql, mariadb_10

CREATE TABLE orders (id INT PRIMARY KEY, net INT, total INT AS (net * 2) STORED, label VARCHAR(20) AS (CONCAT('#', id)) VIRTUAL, secret INT INVISIBLE DEFAULT 7);

INSERT INTO orders (id, net) VALUES (1, 10);
-- -> {"op": "c", "after": {"id":1,"net":10,"total":20,"label":"#1","secret":7}}
UPDATE orders SET net = 11, secret = 8 WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"net":10,"total":20,"label":"#1","secret":7}, "after": {"id":1,"net":11,"total":22,"label":"#1","secret":8}}
DELETE FROM orders WHERE id = 1;
-- -> {"op": "d", "before": {"id":1,"net":11,"total":22,"label":"#1","secret":8}}
