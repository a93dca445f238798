"""Rewrites a statement in an equivalent form: comments of all kinds, quotes by the SQL mode, letters of any case.

The meaning stays the same. Keywords are the words in capitals, names are in backticks or lower case.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

MODES = (
    *("", "STRICT_ALL_TABLES", "STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE", "STRICT_ALL_TABLES,ANSI_QUOTES"),
    *("STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT,IGNORE_SPACE", "PAD_CHAR_TO_FULL_LENGTH", "ANSI"),
    *("TRADITIONAL", "ALLOW_INVALID_DATES", "NO_AUTO_VALUE_ON_ZERO", "REAL_AS_FLOAT,STRICT_ALL_TABLES"),
)
MYSQL_MODES = ("TIME_TRUNCATE_FRACTIONAL",)
MARIADB_MODES = ("EMPTY_STRING_IS_NULL", "ORACLE", "MAXDB,STRICT_ALL_TABLES", "TIME_ROUND_FRACTIONAL", "MSSQL")
CHARSETS = ("utf8mb4", "utf8mb4", "latin1", "cp1251", "gbk", "sjis")

_PIECE = re.compile(r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'|[\w$]+|\s+|.", re.DOTALL)
_WITH_ANSI_QUOTES = {"ANSI", "ANSI_QUOTES", "ORACLE", "MAXDB", "MSSQL", "POSTGRESQL", "DB2"}
_BARE = re.compile(r"[a-z][a-z0-9]*\Z")
_COMMENTS = ("/* it's; DROP TABLE m0 */", "/**/", " -- it's `\n", ' #"\n', "/*!99999 DROP TABLE m1 */", "/* a\n/ * */")


@dataclass(frozen=True)
class SqlStyle:
    """How to rewrite statements.

    Attributes:
        modes: the SQL mode, comma-separated.
        mariadb: True for MariaDB.
        tables: names of tables, written in any case if `folds_names` is set.
    """

    modes: str
    mariadb: bool
    tables: frozenset[str]
    folds_names: bool = False

    @property
    def ansi_quotes(self) -> bool:
        return bool(
            {"ANSI", "ANSI_QUOTES", "ORACLE", "MAXDB", "MSSQL", "POSTGRESQL", "DB2"} & set(self.modes.split(","))
        )


def vary_sql(sql: str, chance: random.Random, style: SqlStyle) -> str:
    """An equivalent form of the statement."""
    pieces = [match[0] for match in _PIECE.finditer(sql)]
    written = [_piece(piece, chance, style) for piece in pieces]
    gaps = [at for at, piece in enumerate(pieces) if piece.isspace()]
    executed = chance.choice(gaps) if gaps and chance.random() < 0.12 else len(pieces)
    for at in gaps:
        written[at] = _gap(chance) if at < executed else " "
    text = "".join(written[:executed])
    if executed < len(pieces):
        text += f" {_opening(chance, style)} {''.join(written[executed + 1 :])} */"
    elif chance.random() < 0.08:
        text = f"{_opening(chance, style)} {sql} */"
    before = chance.choice(("", "", "", *_COMMENTS, "/* ApplicationName=DBeaver */ "))
    return before.lstrip() + text + chance.choice(("", "", "", " -- the end", " /* the end */", "\n#", " "))


def _piece(piece: str, chance: random.Random, style: SqlStyle) -> str:
    if piece.startswith("`"):
        name = piece[1:-1].replace("``", "`")
        return _name(name, chance, style)
    if piece in style.tables:
        return _name(piece, chance, style)
    if piece.startswith("'") and piece.count("'") == 2 and '"' not in piece and not style.ansi_quotes:
        return f'"{piece[1:-1]}"' if chance.random() < 0.15 else piece
    if piece.isupper():
        return chance.choice((piece, piece, piece.lower(), piece.capitalize()))
    return piece


def _name(name: str, chance: random.Random, style: SqlStyle) -> str:
    if style.folds_names and name in style.tables:
        name = chance.choice((name, name.upper(), name.capitalize()))
    forms = ["`" + name.replace("`", "``") + "`"]
    if style.ansi_quotes:
        forms.append('"' + name.replace('"', '""') + '"')
    if _BARE.match(name.lower()):
        forms.append(name)
    return chance.choice(forms)


def _gap(chance: random.Random) -> str:
    return chance.choice(_COMMENTS) if chance.random() < 0.12 else chance.choice((" ", " ", " ", "\n", "\t", "  "))


def _opening(chance: random.Random, style: SqlStyle) -> str:
    """The opening of an executable comment."""
    own = ["/*M!", "/*M!100100"] if style.mariadb else ["/*!080000"]
    return chance.choice(["/*!", "/*!40000", "/*!50100", *own])
