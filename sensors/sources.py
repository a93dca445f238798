"""The sensors of each source: they keep its tail alive, start its consumers, and register bookmarks and new tables."""

import dagster as dg

from binlogsync.settings import Settings
from dagster_binlogsync.definitions import build_source_sensors
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.options import build_continuous_config
from dagster_binlogsync.tail.job import TailConfig
from resources.connections import resource_keys


def build_sensors(
    settings: Settings, consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> list[dg.SensorDefinition]:
    """All sensors of this deployment."""
    continuous = build_continuous_config(settings)
    return [
        sensor
        for source, keys in resource_keys(settings.sources()).items()
        for sensor in build_source_sensors(source, consumers, options, keys, continuous, running=running)
    ]
