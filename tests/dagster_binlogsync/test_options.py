"""Options of the tails from the settings."""

from pathlib import Path

from binlogsync.settings import Settings
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.tail.job import TailConfig


def test_options_of_the_tail(tmp_path: Path) -> None:
    (tmp_path / "binlogsync.toml").write_text('[tail]\ninclude = ["shop.*"]\n[dagster]\nshift_s = 1.5\n')
    settings = Settings.read(tmp_path, {"BINLOGSYNC_START": "oldest", "BINLOGSYNC_FLUSH_ROWS": "10"})
    assert build_tail_config(settings) == TailConfig(start="oldest", include=["shop.*"], flush_rows=10, shift_s=1.5)
    assert build_tail_config(Settings()) == TailConfig()


def test_options_reach_the_library_unchanged() -> None:
    options = TailConfig(flush_interval_s=0.5, include=["a.*"], retry_s=7).options("main")
    assert (options.source, options.flush_interval_s, options.include, options.retry_s) == ("main", 0.5, ("a.*",), 7)
