"""Starts consumer runs for tables with a backlog."""

from collections.abc import Iterable

import dagster as dg

from dagster_binlogsync.discovery import ConsumerDefinitions, find_uncaptured
from dagster_binlogsync.sensors.backlog import build_backlog_sensor
from dagster_binlogsync.tail.job import TailConfig


def build_backlog_sensors(
    sources: Iterable[str], consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> list[dg.SensorDefinition]:
    """The sensor `consume_<source>` of each source that has consumers."""
    return [
        build_backlog_sensor(
            source, tables, running=running, code=consumers.code, uncaptured=find_uncaptured(tables, options)
        )
        for source in sources
        if (tables := consumers.of(source))
    ]
