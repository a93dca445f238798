"""Random statements on a few tables, from a seed: rows of many types, transactions, and every kind of DDL.

Tests mirror the tables in MIRRORED; tables with SPARE names are created and dropped beside them. Statements that the
server refuses (a duplicate key, a value out of range) are counted, and belong to the test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pymysql

from binlogsync.servers import MariaDBServer
from tests.databases import FreshDatabase

MIRRORED = ("m0", "m1", "m2", "m3")
SPARE = ("x0", "x1")
WORDS = ("", "a", "A", "b ", "zwölf", "日本", "long " * 3, "12", "0", "x'y\\\\z", "red")
TYPES = (
    *("TINYINT", "SMALLINT UNSIGNED", "MEDIUMINT", "INT", "INT UNSIGNED", "BIGINT", "BIGINT UNSIGNED"),
    *("DECIMAL(6,2)", "DECIMAL(12,4)", "DECIMAL(50,3)", "DOUBLE", "FLOAT", "BIT(1)", "BIT(9)", "YEAR"),
    *("VARCHAR(8)", "VARCHAR(40)", "CHAR(12)", "TEXT", "MEDIUMTEXT", "VARCHAR(20) CHARACTER SET latin1"),
    *("VARBINARY(10)", "BINARY(4)", "BLOB", "JSON", "ENUM('red','green','a')", "SET('a','b','red')"),
    *("DATE", "DATETIME", "DATETIME(3)", "DATETIME(6)", "TIMESTAMP(2) NULL", "TIME", "TIME(4)"),
)
WIDER = {
    "tinyint": ("SMALLINT", "INT", "BIGINT", "VARCHAR(12)", "DECIMAL(12,4)", "DOUBLE"),
    "mediumint": ("INT", "BIGINT", "TINYINT", "TEXT"),
    "int": ("BIGINT", "SMALLINT", "DECIMAL(12,4)", "VARCHAR(40)", "INT UNSIGNED"),
    "decimal": ("DECIMAL(12,4)", "DECIMAL(6,2)", "DECIMAL(50,3)", "DOUBLE", "INT"),
    "varchar": ("VARCHAR(80)", "VARCHAR(8)", "TEXT", "CHAR(12)", "VARCHAR(20) CHARACTER SET latin1", "VARBINARY(80)"),
    "char": ("VARCHAR(40)", "CHAR(30)"),
    "text": ("MEDIUMTEXT", "VARCHAR(40)"),
    "enum": ("ENUM('red','green','a','new')", "VARCHAR(10)", "ENUM('a','green','red')"),
    "set": ("SET('a','b','red','new')", "VARCHAR(40)"),
    "datetime": ("DATETIME(6)", "DATETIME", "DATE", "VARCHAR(40)"),
    "time": ("TIME(6)", "TIME"),
    "date": ("DATETIME", "DATETIME(3)"),
    "float": ("DOUBLE",),
    "varbinary": ("VARBINARY(90)", "BLOB"),
    "bit": ("BIT(20)",),
    "json": ("LONGTEXT",),
}


@dataclass(frozen=True)
class ServerColumn:
    """A column of a table on the server."""

    name: str
    kind: str
    declared: str
    is_key: bool
    is_generated: bool


class RandomStatements:
    """Executes random statements; `done` and `refused` count them."""

    def __init__(self, database: FreshDatabase, seed: int) -> None:
        self.chance = random.Random(seed)
        self.database = database
        self._is_mariadb = isinstance(database.server, MariaDBServer)
        self.done = self.refused = 0
        self.log: list[str] = []
        self._numbers = 0
        self.run("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'")
        for name in (*MIRRORED, *SPARE):
            self._create(name)

    def step(self) -> None:
        """Execute one statement, or a transaction of several."""
        if self.chance.random() < 0.18:
            self.chance.choice(self._ddl())()
        elif self.chance.random() < 0.2:
            self.run("BEGIN")
            for _ in range(self.chance.randrange(1, 6)):
                self._write(self._table())
            self.run("COMMIT" if self.chance.random() < 0.8 else "ROLLBACK")
        else:
            self._write(self._table())

    def run(self, sql: str) -> bool:
        """Execute it; False when the server refuses."""
        self.done += 1
        try:
            self.database.execute(sql)
        except pymysql.MySQLError as error:
            self.refused += 1
            self.log.append(f"-- refused ({error.args[0]}): {sql}")
            return False
        self.log.append(sql)
        return True

    def fields(self, table: str) -> list[ServerColumn]:
        """The columns of a table; empty if it does not exist."""
        rows = self.database.execute(
            "SELECT column_name, data_type, column_type, column_key, extra FROM information_schema.columns "
            f"WHERE table_schema = '{self.database.name}' AND table_name = '{table}' ORDER BY ordinal_position"
        )
        texts = [[x.decode() if isinstance(x, bytes) else x for x in row] for row in rows]
        return [ServerColumn(n, k.lower(), t, key == "PRI", "GENERATED" in extra) for n, k, t, key, extra in texts]

    def mirrored_fields(self, table: str) -> list[ServerColumn]:
        """The columns of the mirror: MariaDB logs generated columns in inserts only."""
        return [field for field in self.fields(table) if not (self._is_mariadb and field.is_generated)]

    # Rows

    def _table(self) -> str:
        return self.chance.choice((*MIRRORED, *MIRRORED, *SPARE))

    def _write(self, table: str) -> None:
        fields = [field for field in self.fields(table) if not field.is_generated]
        if not fields:
            return
        kinds = (self._insert, self._insert, self._insert, self._update, self._update, self._delete, self._move_keys)
        self.chance.choice(kinds)(table, fields)

    def _insert(self, table: str, fields: list[ServerColumn]) -> None:
        rows = [f"({', '.join(self._value(field) for field in fields)})" for _ in range(self.chance.randrange(1, 5))]
        if self.chance.random() < 0.2:
            rows *= 2  # equal rows, where there is no key
        verb = self.chance.choice(("INSERT", "INSERT", "INSERT IGNORE", "REPLACE"))
        names = ", ".join(f"`{field.name}`" for field in fields)
        self.run(f"{verb} INTO {table} ({names}) VALUES {', '.join(rows)}")

    def _update(self, table: str, fields: list[ServerColumn]) -> None:
        changed = self.chance.sample(fields, min(len(fields), self.chance.randrange(1, 3)))
        sets = ", ".join(f"`{field.name}` = {self._value(field)}" for field in changed)
        self.run(f"UPDATE {table} SET {sets}{self._where(fields)}")

    def _delete(self, table: str, fields: list[ServerColumn]) -> None:
        self.run(f"DELETE FROM {table}{self._where(fields)}")

    def _move_keys(self, table: str, fields: list[ServerColumn]) -> None:
        """Shift an integer key, so that rows take the keys of other rows within one statement or transaction."""
        keys = [field for field in fields if field.is_key and "int" in field.kind]
        if not keys:
            return self._update(table, fields)
        name = self.chance.choice(keys).name
        if self.chance.random() < 0.5:
            self.run(f"UPDATE {table} SET `{name}` = `{name}` + 1 ORDER BY `{name}` DESC")
        else:
            one, two = self.chance.sample(range(1, 12), 2)
            self.run("BEGIN")
            for old, new in ((one, 100), (two, one), (100, two)):
                self.run(f"UPDATE {table} SET `{name}` = {new} WHERE `{name}` = {old}")
            self.run("COMMIT")
        return None

    def _where(self, fields: list[ServerColumn]) -> str:
        field = self.chance.choice(fields)
        text = f" WHERE `{field.name}` {self.chance.choice(('=', '>', '<', '<>'))} {self._value(field)}"
        if self.chance.random() < 0.3:
            text = f" WHERE `{field.name}` IS NULL"
        if self.chance.random() < 0.15:
            text = ""
        return text + f" LIMIT {self.chance.randrange(1, 6)}"

    def _value(self, field: ServerColumn) -> str:
        """SQL of a value that is valid in most cases."""
        chance = self.chance
        if field.is_key and "int" in field.kind:
            return str(chance.randrange(0, 14))
        if not field.is_key and chance.random() < 0.15:
            return "NULL"
        kind, unsigned = field.kind, "unsigned" in field.declared
        if "int" in kind:
            return str(chance.choice((0, 1, 7, 12, 120, 300, 70_000) if unsigned else (-128, -1, 0, 5, 127, 3000)))
        if kind in ("decimal", "double", "float"):
            return chance.choice(("0", "-0.25", "1.5", "12.34", "-999.99", "0.1", "1234.5"))
        if kind == "bit":
            return chance.choice(("b'0'", "b'1'", "b'101'"))
        if kind == "year":
            return chance.choice(("1999", "2024", "0"))
        if kind == "json":
            return chance.choice(("'{\"a\": [1, 2.5, null]}'", "'[]'", "'\"ü\"'", "'null'", "'17'"))
        if kind in ("date", "datetime", "timestamp"):
            day = chance.choice(("2001-02-03", "2024-02-29", "1999-12-31"))
            return (
                f"'{day}'"
                if kind == "date"
                else f"'{day} {chance.choice(('00:00:00', '23:59:59.5', '12:34:56.789012'))}'"
            )
        if kind == "time":
            return chance.choice(("'00:00:00'", "'-12:30:15.25'", "'838:59:59'", "'07:08:09.123456'"))
        if kind == "enum":
            return chance.choice(("'red'", "'green'", "'a'", "'nothing'"))
        if kind == "set":
            return chance.choice(("''", "'a'", "'b,a'", "'red,a'"))
        return "'" + chance.choice(WORDS).replace("'", "''") + "'"

    # Tables

    def _ddl(self) -> list[Callable[[], object]]:
        often = [self._add, self._add, self._add_default, self._drop, self._rename_column, self._modify, self._modify]
        return [*often, self._several, self._index, self._key, self._charset, self._truncate, self._replace, self._swap]

    def _name(self) -> str:
        self._numbers += 1
        return self.chance.choice((f"c{self._numbers}", f"größe {self._numbers}", f"C{self._numbers}"))

    def _column_position(self, fields: list[ServerColumn]) -> str:
        return self.chance.choice(("", "", " FIRST", f" AFTER `{self.chance.choice(fields).name}`"))

    def _alter(self, table: str, *clauses: str) -> bool:
        return self.run(f"ALTER TABLE {table} " + ", ".join(clauses))

    def _fields(self) -> tuple[str, list[ServerColumn]]:
        """An existing table, and its columns."""
        table = self._table()
        while not (fields := self.fields(table)):
            self._create(table)
        return table, fields

    def _added(self, fields: list[ServerColumn]) -> str:
        return f"ADD COLUMN `{self._name()}` {self.chance.choice(TYPES)}{self._column_position(fields)}"

    def _add(self) -> None:
        table, fields = self._fields()
        if len(fields) < 12:
            self._alter(table, self._added(fields))

    def _add_default(self) -> None:
        table, fields = self._fields()
        given = self.chance.choice(
            (
                *(
                    "INT NOT NULL DEFAULT 7",
                    "INT NOT NULL",
                    "VARCHAR(10) NOT NULL DEFAULT 'it''s'",
                    "DECIMAL(8,3) DEFAULT 1.5",
                ),
                *("ENUM('x','y') NOT NULL", "DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3)", "DOUBLE DEFAULT (1 + 1)"),
                *("DATE DEFAULT '2020-02-03'", "BIGINT UNSIGNED DEFAULT 18446744073709551615", "TEXT NOT NULL"),
                *("BIT(4) DEFAULT b'101'", "SET('a','b') NOT NULL", "TINYINT(1) DEFAULT TRUE", "INT AS (1 + 1) STORED"),
                *("TIMESTAMP NULL DEFAULT '2020-01-01 00:00:00'", "INT DEFAULT NULL INVISIBLE", "CHAR(3) DEFAULT ''"),
            )
        )
        self._alter(table, f"ADD COLUMN `{self._name()}` {given}{self._column_position(fields)}")

    def _drop(self) -> None:
        table, fields = self._fields()
        if len(fields) > 3:
            self._alter(table, f"DROP COLUMN `{self.chance.choice(fields).name}`")

    def _rename_column(self) -> None:
        table, fields = self._fields()
        if len(fields) > 1 and self.chance.random() < 0.3:
            one, two = self.chance.sample(fields, 2)
            self._alter(
                table, f"RENAME COLUMN `{one.name}` TO `{two.name}`", f"RENAME COLUMN `{two.name}` TO `{one.name}`"
            )
        else:
            self._alter(table, f"RENAME COLUMN `{self.chance.choice(fields).name}` TO `{self._name()}`")

    def _modify(self) -> None:
        table, fields = self._fields()
        field = self.chance.choice([field for field in fields if not field.is_generated] or fields)
        wanted = self.chance.choice((*WIDER.get(field.kind, ()), field.declared))
        wanted += self.chance.choice(("", "", " NOT NULL")) + self._column_position(fields)
        if self.chance.random() < 0.5:
            self._alter(table, f"MODIFY COLUMN `{field.name}` {wanted}")
        else:
            self._alter(table, f"CHANGE `{field.name}` `{self._name()}` {wanted}")

    def _several(self) -> None:
        table, fields = self._fields()
        if 3 < len(fields) < 12:
            gone, moved = self.chance.sample(fields, 2)
            self._alter(
                table,
                self._added([moved]),
                f"DROP COLUMN `{gone.name}`",
                f"MODIFY `{moved.name}` {moved.declared} FIRST",
                self._added([moved]),
            )

    def _index(self) -> None:
        table, fields = self._fields()
        name = f"i{self._numbers}"
        if self._alter(table, f"ADD INDEX {name} (`{self.chance.choice(fields).name}`)"):
            self._alter(table, f"DROP INDEX {name}", "ALGORITHM=INPLACE")

    def _key(self) -> None:
        table, fields = self._fields()
        keys = [field.name for field in fields if "int" in field.kind]
        if any(field.is_key for field in fields):
            self._alter(table, "DROP PRIMARY KEY")
        elif keys:
            self._alter(table, f"ADD PRIMARY KEY ({', '.join(f'`{name}`' for name in keys[:2])})")

    def _charset(self) -> None:
        """Not to utf16: servers do not convert the labels of an ENUM, which then no longer match."""
        self._alter(self._fields()[0], f"CONVERT TO CHARACTER SET {self.chance.choice(('latin1', 'utf8mb4'))}")

    def _truncate(self) -> None:
        self.run(f"TRUNCATE TABLE {self._fields()[0]}")

    def _replace(self) -> None:
        """Drop the table; create another one with its name, at once or later."""
        table = self._table()
        self.run(f"DROP TABLE IF EXISTS {table}")
        if self.chance.random() < 0.8:
            self._create(table)

    def _swap(self) -> None:
        one, two = self.chance.sample((*MIRRORED, *SPARE), 2)
        if self.chance.random() < 0.5:
            self.run(f"RENAME TABLE {one} TO tmp, {two} TO {one}, tmp TO {two}")
        elif self.run(f"ALTER TABLE {one} RENAME TO away"):
            self.run(f"RENAME TABLE away TO {one}")

    def _create(self, table: str) -> None:
        chance, other = self.chance, self._table()
        if chance.random() < 0.15 and self.run(f"CREATE TABLE {table} LIKE {other}"):
            return
        if chance.random() < 0.15 and self.run(f"CREATE TABLE {table} AS SELECT * FROM {other}"):
            return
        columns = [f"`{self._name()}` {kind}" for kind in chance.sample(TYPES, chance.randrange(1, 5))]
        key = chance.choice(("", "", ", PRIMARY KEY (id)", ", PRIMARY KEY (id)", ", PRIMARY KEY (k2, id)"))
        again = chance.choice(("", "", "IF NOT EXISTS "))
        self.run(
            f"CREATE TABLE {again}{table} (id INT NOT NULL, k2 SMALLINT UNSIGNED NOT NULL DEFAULT 3, "
            f"{', '.join(columns)}{key}) ENGINE=InnoDB"
        )
