"""Which tables a snapshot for one consumer has."""

from __future__ import annotations

import pytest

from binlogsync.errors import ConfigError
from binlogsync.snapshot.consumer_tables import check_consumer, choose_tables

ORDERS, ITEMS, USERS = ("shop", "orders"), ("shop", "items"), ("crm", "users")
READERS = {"app": {ORDERS, USERS}, "dagster": {ITEMS, ORDERS}}


def test_the_tables_that_the_consumer_reads() -> None:
    matched = {"shop.*": (ITEMS, ORDERS), "crm.*": (USERS,)}
    assert choose_tables("app", matched, READERS) == [USERS, ORDERS]


def test_a_pattern_without_a_table_of_the_consumer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'app' reads no captured table that matches shop\.items; it reads: crm\.us"):
        choose_tables("app", {"crm.*": (USERS,), "shop.items": (ITEMS,)}, READERS)


def test_an_unknown_consumer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no consumer 'ap' reads the stream; those that do are: app, dagster\."):
        check_consumer("ap", READERS)
    with pytest.raises(ConfigError, match="those that do are: none"):
        check_consumer("ap", {})
