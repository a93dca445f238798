-- The key that MySQL makes for a table without one is a column as others are; partitions are not seen.
-- servers: mysql

SET sql_generate_invisible_primary_key = ON;
CREATE TABLE notes (note VARCHAR(20));
SET sql_generate_invisible_primary_key = OFF;

INSERT INTO notes VALUES ('first'), ('second');
-- -> {"op": "c", "after": {"my_row_id":1,"note":"first"}}
-- -> {"op": "c", "after": {"my_row_id":2,"note":"second"}}
DELETE FROM notes WHERE note = 'first';
-- -> {"op": "d", "before": {"my_row_id":1,"note":"first"}}

CREATE TABLE parts (id INT PRIMARY KEY, n INT) PARTITION BY HASH (id) PARTITIONS 3;

-- The row moves into another partition.
INSERT INTO parts VALUES (1, 10);
-- -> {"op": "c", "after": {"id":1,"n":10}}
UPDATE parts SET id = 2;
-- -> {"op": "u", "before": {"id":1,"n":10}, "after": {"id":2,"n":10}}
