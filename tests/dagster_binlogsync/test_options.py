"""Options of the tails from the settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from binlogsync.settings import Settings
from binlogsync.settings.model import TailSection
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


def test_every_setting_of_the_tail_is_an_option_in_dagster_and_reaches_the_library() -> None:
    assert TailSection.model_fields.keys() <= TailConfig.model_fields.keys()
    changed = {
        "start": "oldest", "flush": "eager", "flush_interval_s": 0.5, "flush_rows": 7, "include": ("a.*",),
        "exclude": ("b.*",), "snapshot": "initial", "snapshot_keyless_rows": 9, "bookmark_minutes": 2.0,
        "bookmark_keep": 3, "bookmark_keep_days": 4.0,
    }  # fmt: skip
    assert changed.keys() == TailSection.model_fields.keys()
    settings = Settings()
    values = settings.values.model_copy(update={"tail": settings.values.tail.model_copy(update=changed)})
    by_settings = replace(settings, values=values).tail("main")
    given: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()
    }
    assert TailConfig(**given).options("main") == by_settings
