-- MySQL reads and prints EPSG 4326 with the latitude first, and stores it with the longitude first: that arrives.
-- servers: mysql

CREATE TABLE places (id INT PRIMARY KEY, p POINT NOT NULL SRID 4326);

-- Latitude 52.5, longitude 13.4.
INSERT INTO places VALUES (1, ST_GeomFromText('POINT(52.5 13.4)', 4326));
-- -> {"op": "c", "after": {"id":1,"p":{"srid":4326,"wkb":"AQEAAADNzMzMzMwqQAAAAAAAQEpA"}}}
