-- A warehouse as version 0.x wrote it: a mirror with history, one of a database called binlogsync, progress, a replay.
CREATE SCHEMA binlogsync;
CREATE SCHEMA shop;
CREATE SCHEMA replay_shop;
CREATE SCHEMA replay_live;
CREATE TABLE binlogsync.backfills(number VARCHAR, "source" VARCHAR, "database" VARCHAR, table_name VARCHAR, words VARCHAR, "target" VARCHAR, plan JSON, done JSON, begun_at TIMESTAMP WITH TIME ZONE, finished_at TIMESTAMP WITH TIME ZONE);
CREATE TABLE binlogsync.mirrors("database" VARCHAR, table_name VARCHAR, schema_json VARCHAR, read_at VARCHAR, deleted_at VARCHAR, changed_at TIMESTAMP WITH TIME ZONE, left_out VARCHAR[], PRIMARY KEY("database", table_name));
CREATE TABLE binlogsync.progress(client VARCHAR, "source" VARCHAR, "database" VARCHAR, table_name VARCHAR, server_uuid VARCHAR, gtid VARCHAR, file VARCHAR, pos UBIGINT, "row" UINTEGER, txn_order UBIGINT, "sequence" UBIGINT, seen UBIGINT, changes UBIGINT, epoch UBIGINT, moved_at TIMESTAMP WITH TIME ZONE);
CREATE TABLE binlogsync.verifications(id VARCHAR, "database" VARCHAR, table_name VARCHAR, read_at VARCHAR, is_done BOOLEAN, schema_json VARCHAR, asked_at TIMESTAMP WITH TIME ZONE);
CREATE TABLE binlogsync."verification 5f"(k0 INTEGER, h UBIGINT);
CREATE TABLE binlogsync.orders(id INTEGER);
CREATE TABLE shop.things(id INTEGER, a INTEGER);
CREATE TABLE replay_shop.things(id INTEGER, a INTEGER);
CREATE TABLE replay_live.things(id INTEGER, a INTEGER);
CREATE TABLE shop.things__history(id INTEGER, a INTEGER, valid_from TIMESTAMP WITH TIME ZONE, from_file VARCHAR, from_pos UBIGINT, from_row UINTEGER, valid_to TIMESTAMP WITH TIME ZONE, to_file VARCHAR, to_pos UBIGINT, to_row UINTEGER);
INSERT INTO shop.things VALUES (1, 1);
INSERT INTO shop.things__history VALUES (1, 1, '2023-11-14 22:13:20+00', 'binlog.000001', 1000, 0, NULL, NULL, NULL, NULL);
INSERT INTO binlogsync.progress VALUES ('dagster', 'main', 'shop', 'things', '3e11fa47-71ca-11e1-9e33-c80aa9429562', NULL, 'binlog.000001', 1000, 0, 0, 7, 7, 1, 1, now());
INSERT INTO binlogsync.backfills VALUES ('b1', 'main', 'shop', 'things', 'words', 'table replay_shop.things', NULL, NULL, now(), now());
INSERT INTO binlogsync.mirrors VALUES
    ('shop', 'things', '{"database":"shop","table":"things","columns":[{"name":"id","type":"int","nullable":true,"unsigned":false,"length":null,"precision":null,"scale":null,"fsp":null,"charset":null,"labels":[],"visible":true},{"name":"a","type":"int","nullable":true,"unsigned":false,"length":null,"precision":null,"scale":null,"fsp":null,"charset":null,"labels":[],"visible":true}],"primary_key":["id"]}', NULL, NULL, now(), NULL),
    ('replay_shop', 'things', '{"database":"replay_shop","table":"things","columns":[],"primary_key":[]}', NULL, NULL, now(), NULL),
    ('replay_live', 'things', '{"database":"replay_live","table":"things","columns":[],"primary_key":[]}', NULL, NULL, now(), NULL),
    ('binlogsync', 'orders', '{"database":"binlogsync","table":"orders","columns":[],"primary_key":[]}', NULL, NULL, now(), NULL);
