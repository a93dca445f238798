"""Which SQL conditions of a snapshot are refused."""

from __future__ import annotations

import pytest

from binlogsync.errors import ConfigError
from binlogsync.snapshot.condition import refuse_condition
from binlogsync.snapshot.requests import new_request


@pytest.mark.parametrize(
    "where",
    [
        "id IN (SELECT id FROM other)",
        "EXISTS (select 1 from other)",
        "id = ( /* the largest */ SeLeCt MAX(id) FROM t)",
        "id IN (TABLE other)",
        "id IN (WITH x AS (SELECT 1) SELECT * FROM x)",
        "id > 5 /*!80000 AND id < (SELECT 7) */",
    ],
)
def test_a_subquery_is_refused(where: str) -> None:
    assert "has a subquery" in refuse_condition(where)
    with pytest.raises(ConfigError, match="has a subquery"):
        new_request(["shop.t"], where)


@pytest.mark.parametrize(
    "where",
    [
        "id IN (1, 2)",
        "note = 'SELECT 1' AND name <> \"select\"",
        "`select` = 1 OR t.select = 2",
        "id > 5 -- SELECT",
        "id > 5 /* TABLE */",
        "selected = 1 AND table_id = 2",
        "MATCH (note) AGAINST ('x' WITH QUERY EXPANSION)",
    ],
)
def test_other_conditions_are_not(where: str) -> None:
    assert refuse_condition(where) == ""
    assert new_request(["shop.t"], where).where == where
