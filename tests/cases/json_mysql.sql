-- MySQL's JSON is embedded: numbers keep their digits, and what JSON has no word for is what SELECT prints.
-- servers: mysql

CREATE TABLE documents (id INT PRIMARY KEY, j JSON);

INSERT INTO documents VALUES (1, '{"b": [1, 2.50, null, true], "a": "ä\\n"}');
-- -> {"op": "c", "after": {"id":1,"j":{"a": "ä\n", "b": [1, 2.5, null, true]}}}
INSERT INTO documents VALUES (2, '18446744073709551615'), (3, '"text"'), (4, '1e300'), (5, '[]');
-- -> {"op": "c", "after": {"id":2,"j":18446744073709551615}}
-- -> {"op": "c", "after": {"id":3,"j":"text"}}
-- -> {"op": "c", "after": {"id":4,"j":1e300}}
-- -> {"op": "c", "after": {"id":5,"j":[]}}

-- The JSON value null and NULL look the same here; `source.json_null` names the first.
INSERT INTO documents VALUES (6, 'null'), (7, NULL);
-- -> {"op": "c", "after": {"id":6,"j":null}, "json_null": ["after.j"]}
-- -> {"op": "c", "after": {"id":7,"j":null}}

-- DECIMAL keeps its scale; dates, times, bits and bytes are strings.
INSERT INTO documents VALUES (8, JSON_ARRAY(CAST(1.50 AS DECIMAL(10,2)), DATE'2024-02-29', TIME'-12:34:56', TIMESTAMP'2024-02-29 12:00:00.5'));
-- -> {"op": "c", "after": {"id":8,"j":[1.50, "2024-02-29", "-12:34:56.000000", "2024-02-29 12:00:00.500000"]}}
INSERT INTO documents VALUES (9, JSON_ARRAY(x'00ff', b'101'));
-- -> {"op": "c", "after": {"id":9,"j":["base64:type15:AP8=", "base64:type15:BQ=="]}}
INSERT INTO documents VALUES (10, JSON_OBJECT('point', ST_GeomFromText('POINT(1 2)')));
-- -> {"op": "c", "after": {"id":10,"j":{"point": {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:MySQL::0"}}, "type": "Point", "coordinates": [1.0, 2.0]}}}}

UPDATE documents SET j = JSON_SET(j, '$.a', 'new') WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"j":{"a": "ä\n", "b": [1, 2.5, null, true]}}, "after": {"id":1,"j":{"a": "new", "b": [1, 2.5, null, true]}}}
DELETE FROM documents WHERE id = 6;
-- -> {"op": "d", "before": {"id":6,"j":null}, "json_null": ["before.j"]}
