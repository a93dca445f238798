"""Table names on the command line."""

from __future__ import annotations

from contextlib import closing

from binlogsync.codec.subjects import parse_table
from binlogsync.server_facts import ServerFacts
from binlogsync.settings import Settings
from binlogsync.table_names import Fold, fold_case, fold_of


def read_table(settings: Settings, source: str, text: str) -> tuple[str, str]:
    """(database, table) of "database.table", in the letter case in which the server that was tailed last stores it.

    Raises ConfigError, StoreError.
    """
    database, table = parse_table(text)
    folded = fold_case(database), fold_case(table)
    if folded == (database, table):
        return folded
    fold = read_fold(settings, source)
    return fold(database), fold(table)


def read_fold(settings: Settings, source: str) -> Fold:
    """How the server that was tailed last compares names. Raises ConfigError, StoreError."""
    with closing(settings.positions()) as store:
        facts = ServerFacts.from_text(store.checkpoints.load_facts(source))
    return fold_of(facts.settings.get("lower_case_table_names") if facts is not None else None)
