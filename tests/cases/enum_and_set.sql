-- ENUM is its label, SET an array of labels in the order of their declaration.
-- servers: mysql, mariadb, mariadb_10

SET sql_mode = '';
CREATE TABLE labels (id INT PRIMARY KEY, e ENUM('small','it''s','ä'), s SET('x','y','z'), l ENUM('ü','a') CHARACTER SET latin1);

INSERT INTO labels VALUES (1, 'it''s', 'z,x', 'ü');
-- -> {"op": "c", "after": {"id":1,"e":"it's","s":["x","z"],"l":"ü"}}
INSERT INTO labels VALUES (2, 'ä', '', 'a');
-- -> {"op": "c", "after": {"id":2,"e":"ä","s":[],"l":"a"}}

-- What MySQL stores for a value that is no label is the empty string.
INSERT INTO labels VALUES (3, 'nonsense', 'x,nonsense', NULL);
-- -> {"op": "c", "after": {"id":3,"e":"","s":["x"],"l":null}}
UPDATE labels SET e = 1, s = 7 WHERE id = 2;
-- -> {"op": "u", "before": {"id":2,"e":"ä","s":[],"l":"a"}, "after": {"id":2,"e":"small","s":["x","y","z"],"l":"a"}}
DELETE FROM labels WHERE id = 3;
-- -> {"op": "d", "before": {"id":3,"e":"","s":["x"],"l":null}}
