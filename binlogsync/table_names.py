"""Names of databases and tables on a case-insensitive server: folded to lower case as the server folds them.

With lower_case_table_names=1 a server stores and logs them in lower case, and with 2 as they were typed, but compares
them in lower case; statements are logged as they were typed. MySQL and MariaDB fold with the collation
utf8mb3_general_ci, which covers the letters of Unicode 3.0: it does not fold newer letters.
"""

from __future__ import annotations

from collections.abc import Callable

from binlogsync.errors import ConfigError

Fold = Callable[[str], str]

_NEWER = (
    *(range(0x220, 0x221), range(0x23A, 0x380), range(0x3CF, 0x3D9), range(0x3F4, 0x400), range(0x48A, 0x48B)),
    *(range(0x4C0, 0x4C1), range(0x4C5, 0x4C6), range(0x4C9, 0x4CA), range(0x4CD, 0x4CE), range(0x4F6, 0x4F7)),
    *(range(0x4FA, 0x52F), range(0x10A0, 0x1CC0), range(0x1E9E, 0x1E9F), range(0x1EFA, 0x1EFF)),
    *(range(0x2132, 0x2133), range(0x2183, 0x2184), range(0x2C00, 0xA7F6)),
)
_SPECIAL = {"\u0130": "i"}


def keep_case(name: str) -> str:
    """The name unchanged, for a case-sensitive server."""
    return name


def fold_case(name: str) -> str:
    """The name in lower case, letter by letter, as a server with lower_case_table_names=1 stores it."""
    if name.isascii():
        return name.lower()
    return "".join(map(_lower, name))


def fold_of(lower_case_table_names: str | None) -> Fold:
    """How a server with this value of the variable compares names; None if the value is unknown."""
    return keep_case if lower_case_table_names in (None, "", "0") else fold_case


def check_spelling(fold: Fold, database: str, table: str, source: str) -> None:
    """Raise ConfigError for names that the server of the source never logs, because it folds them."""
    if (fold(database), fold(table)) != (database, table):
        raise ConfigError(
            f"{database}.{table}: the server of source {source} stores names in lower case (lower_case_table_names), "
            f"so that no change has this name; write {fold(database)}.{fold(table)}"
        )


def _lower(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    lower = letter.lower()
    is_newer = any(ord(letter) in block for block in _NEWER)
    return letter if len(lower) != 1 or ord(letter) > 0xFFFF or is_newer else lower
