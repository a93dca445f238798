-- VECTOR is an array of numbers, each with the fewest digits that read back to the same FLOAT.
-- servers: mysql

CREATE TABLE embeddings (id INT PRIMARY KEY, v VECTOR(4));

INSERT INTO embeddings VALUES (1, TO_VECTOR('[1, -2.5, 0.1, 3e10]')), (2, NULL);
-- -> {"op": "c", "after": {"id":1,"v":[1,-2.5,0.1,3e+10]}}
-- -> {"op": "c", "after": {"id":2,"v":null}}

-- It may be shorter than its column.
INSERT INTO embeddings VALUES (3, TO_VECTOR('[16777217]'));
-- -> {"op": "c", "after": {"id":3,"v":[16777216]}}
UPDATE embeddings SET v = TO_VECTOR('[0, 0]') WHERE id = 2;
-- -> {"op": "u", "before": {"id":2,"v":null}, "after": {"id":2,"v":[0,0]}}
DELETE FROM embeddings WHERE id = 1;
-- -> {"op": "d", "before": {"id":1,"v":[1,-2.5,0.1,3e+10]}}
