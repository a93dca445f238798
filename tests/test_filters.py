"""Patterns of tables."""

import pytest

from binlogsync.errors import ConfigError
from binlogsync.filters import TableFilter, split_patterns


def test_patterns_of_tables_may_stand_in_backquotes() -> None:
    patterns = split_patterns("shop.*, `a.b,c`.`x*`,`d?``.`.t*, e.f")
    assert patterns == ("shop.*", "`a.b,c`.`x*`", "`d?``.`.t*", "e.f")
    captured = TableFilter(patterns)
    for database, table in [("shop", "any"), ("a.b,c", "x*"), ("d?`.", "tt"), ("e", "f")]:
        assert captured.captures(database, table)
    for database, table in [("a.b,c", "xy"), ("a", "b,c.x*"), ("dx`.", "tt"), ("d?`", "..t")]:
        assert not captured.captures(database, table)
    for wrong in ("`a.b", "`a`b.c", "a"):
        with pytest.raises(ConfigError, match="not a table pattern"):
            TableFilter((wrong,))
