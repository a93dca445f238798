"""Starts consumer runs for tables with a backlog."""

from collections.abc import Iterable

import dagster as dg

from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.sensors.backlog import build_backlog_sensor


def build_backlog_sensors(
    sources: Iterable[str], consumers: ConsumerDefinitions, *, running: bool
) -> list[dg.SensorDefinition]:
    """The sensor `consume_<source>` of each source that has consumers."""
    return [
        build_backlog_sensor(source, tables, running=running, code=consumers.code)
        for source in sources
        if (tables := consumers.of(source))
    ]
