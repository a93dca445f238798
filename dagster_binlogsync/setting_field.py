"""Fields of resources and of run configuration that are settings: their default and description are those of the model.

They have no limits, because Dagster validates an `EnvVar.int` as 0. The library checks the values.
"""

from typing import Any

from pydantic import Field

from binlogsync.settings.catalog import Setting
from binlogsync.settings.model import Section


def setting_field(section: type[Section], name: str, **changes: Any) -> Any:
    """A pydantic field with default and description of a setting, except for `changes`."""
    setting = Setting((name,), "", section.model_fields[name])
    advice = " Set it by an environment variable." if setting.is_secret else ""
    return Field(**{"default": setting.default, "description": f"{setting.help}{advice}", **changes})
