"""Counts the tables that match patterns of mirrors and await a Reload of the definitions."""

from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.mirror_patterns import StoredLists
from dagster_binlogsync.sensors.tables import build_tables_sensor
from dagster_binlogsync.tail.job import TailConfig


def build_tables_sensors(
    sources: Iterable[str], consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> list[dg.SensorDefinition]:
    """The sensor `tables_<source>` of each source that has patterns of mirrors."""
    lists = StoredLists(Path(options.table_lists))
    return [
        build_tables_sensor(source, patterns, consumers.of(source), lists, running=running)
        for source in sources
        if (patterns := consumers.patterns_of(source)) and options.table_lists
    ]
