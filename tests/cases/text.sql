-- Text arrives as Unicode, whatever the column's character set; CHAR without the blanks that pad it, VARCHAR with its own.
-- servers: mysql, mariadb, mariadb_10

CREATE TABLE words (id INT PRIMARY KEY, c CHAR(10), v VARCHAR(300), t TEXT) CHARACTER SET utf8mb4;

INSERT INTO words VALUES (1, 'ab  ', 'ab  ', 'quote " backslash \\ newline \n tab \t');
-- -> {"op": "c", "after": {"id":1,"c":"ab","v":"ab  ","t":"quote \" backslash \\ newline \n tab \t"}}
INSERT INTO words VALUES (2, '', '', '');
-- -> {"op": "c", "after": {"id":2,"c":"","v":"","t":""}}
INSERT INTO words VALUES (3, '日本語', 'grün €', '😀👨‍👩');
-- -> {"op": "c", "after": {"id":3,"c":"日本語","v":"grün €","t":"😀👨‍👩"}}
UPDATE words SET v = CONCAT(v, '!') WHERE id = 3;
-- -> {"op": "u", "before": {"id":3,"c":"日本語","v":"grün €","t":"😀👨‍👩"}, "after": {"id":3,"c":"日本語","v":"grün €!","t":"😀👨‍👩"}}
DELETE FROM words WHERE id = 2;
-- -> {"op": "d", "before": {"id":2,"c":"","v":"","t":""}}

CREATE TABLE charsets (id INT PRIMARY KEY, l VARCHAR(9) CHARACTER SET latin1, k VARCHAR(9) CHARACTER SET koi8r, s VARCHAR(9) CHARACTER SET sjis, u VARCHAR(9) CHARACTER SET utf16);

-- latin1 is cp1252 in MySQL, and its five free bytes are control characters.
INSERT INTO charsets VALUES (1, 'Ä€œ', 'привет', '日本', '😀');
-- -> {"op": "c", "after": {"id":1,"l":"Ä€œ","k":"привет","s":"日本","u":"😀"}}
INSERT INTO charsets VALUES (2, _latin1 x'8180', _koi8r x'c1', _sjis x'815f', _utf16 x'00410042');
-- -> {"op": "c", "after": {"id":2,"l":"€","k":"а","s":"\\","u":"AB"}}
