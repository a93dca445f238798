"""Checks the SQL condition of a snapshot: it may read the table of the snapshot alone."""

from __future__ import annotations

from itertools import pairwise

from binlogsync.binlog.sql import SqlDialect, Token, tokenize

_READ_TABLES = frozenset({"SELECT", "TABLE"})
_START = Token("sign", "")


def refuse_condition(where: str) -> str:
    """Why rows cannot be chosen by this condition; "" if they can.

    The changes of another table are not observed while rows are read: a condition that depends on it would choose rows
    that no longer meet it when they are published.
    """
    tokens = [_START, *tokenize(where, SqlDialect())]
    for before, token in pairwise(tokens):
        is_column = before.kind == "sign" and before.text == "."
        if token.kind == "word" and token.text.upper() in _READ_TABLES and not is_column:
            return (
                f"the condition of a snapshot has a subquery ({token.text.upper()}), whose result may change while "
                "rows are read: use columns of the table and constants alone, such as a list of values"
            )
    return ""
