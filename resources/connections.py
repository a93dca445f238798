"""The resources of this deployment: one per system, with fields from its settings.

The sources share all of them but their MySQL server, so the Launchpad shows each system once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from binlogsync.settings import Settings
from dagster_binlogsync.keys import safe_part
from dagster_binlogsync.resource_keys import ResourceKeys
from dagster_binlogsync.resources.from_settings import build_resources


def resource_keys(sources: Sequence[str]) -> Mapping[str, ResourceKeys]:
    """The keys of the resources of each source."""
    return {
        name: ResourceKeys(mysql=f"mysql_{safe_part(name)}" if number else "mysql")
        for number, name in enumerate(sources)
    }


def configured_resources(settings: Settings) -> Mapping[str, Any]:
    """The resources by key: one MySQLSource per source, and those that all sources share."""
    return build_resources(settings, resource_keys(settings.sources()))
