"""Sources and tail options from the environment."""

import pytest

from binlogsync.errors import ConfigError
from dagster_binlogsync.tail.job import TailConfig
from pipelines.tails import tail_config
from resources.sources import SourceSettings, configured_sources


def test_the_default_is_one_source() -> None:
    assert configured_sources({}) == (SourceSettings("main", "mysql", "BINLOGSYNC_MYSQL"),)


def test_each_further_source_has_separate_variables() -> None:
    assert configured_sources({"BINLOGSYNC_SOURCE": "shop, eu-west"}) == (
        SourceSettings("shop", "mysql", "BINLOGSYNC_MYSQL"),
        SourceSettings("eu-west", "mysql_eu_west", "BINLOGSYNC_EU_WEST_MYSQL"),
    )


@pytest.mark.parametrize("names", ["a b", "Main", "x.y", "eu-west,eu_west", "main,main", ","])
def test_invalid_source_names_are_refused(names: str) -> None:
    with pytest.raises(ConfigError):
        configured_sources({"BINLOGSYNC_SOURCE": names})


def test_options_of_the_tail() -> None:
    environment = {
        "BINLOGSYNC_START": "oldest",
        "BINLOGSYNC_INCLUDE": "shop.*, treehole.holes",
        "BINLOGSYNC_FLUSH_ROWS": "10",
        "BINLOGSYNC_SHIFT_S": "1.5",
    }
    expected = TailConfig(start="oldest", include=["shop.*", "treehole.holes"], flush_rows=10, shift_s=1.5)
    assert tail_config(environment) == expected
    assert tail_config({}) == TailConfig()


def test_an_invalid_number_is_refused_with_its_variable() -> None:
    with pytest.raises(ConfigError, match="BINLOGSYNC_FLUSH_ROWS='many'"):
        tail_config({"BINLOGSYNC_FLUSH_ROWS": "many"})


def test_options_reach_the_library_unchanged() -> None:
    options = TailConfig(flush_interval_s=0.5, include=["a.*"], retry_s=7).options("main")
    assert (options.source, options.flush_interval_s, options.include, options.retry_s) == ("main", 0.5, ("a.*",), 7)
