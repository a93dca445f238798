-- GEOMETRY and its kinds: the SRID of the value, and its WKB in base64, longitude before latitude, as they are stored.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE places (id INT PRIMARY KEY, g GEOMETRY, p POINT);

INSERT INTO places VALUES (1, ST_GeomFromText('LINESTRING(0 0,1 2)'), ST_GeomFromText('POINT(1 2)'));
-- -> {"op": "c", "after": {"id":1,"g":{"srid":0,"wkb":"AQIAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEA="},"p":{"srid":0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA"}}}
INSERT INTO places VALUES (2, ST_GeomFromText('POINT(1 2)', 3857), NULL);
-- -> {"op": "c", "after": {"id":2,"g":{"srid":3857,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA"},"p":null}}
INSERT INTO places VALUES (3, ST_GeomFromText('GEOMETRYCOLLECTION EMPTY'), ST_GeomFromText('POINT(-0.5 1e300)'));
-- -> {"op": "c", "after": {"id":3,"g":{"srid":0,"wkb":"AQcAAAAAAAAA"},"p":{"srid":0,"wkb":"AQEAAAAAAAAAAADgv5x1AIg85Dd+"}}}
UPDATE places SET p = ST_GeomFromText('POINT(3 4)') WHERE id = 1;
-- -> {"op": "u", "before": {"id":1,"g":{"srid":0,"wkb":"AQIAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEA="},"p":{"srid":0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA"}}, "after": {"id":1,"g":{"srid":0,"wkb":"AQIAAAACAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPA/AAAAAAAAAEA="},"p":{"srid":0,"wkb":"AQEAAAAAAAAAAAAIQAAAAAAAABBA"}}}
DELETE FROM places WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"g":{"srid":3857,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA"},"p":null}}
