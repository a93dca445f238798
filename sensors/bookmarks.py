"""Registers bookmarks as partitions of the replay assets."""

from collections.abc import Iterable

import dagster as dg

from dagster_binlogsync.sensors.bookmarks import build_bookmark_sensor


def build_bookmark_sensors(sources: Iterable[str], *, running: bool) -> list[dg.SensorDefinition]:
    """The sensor `bookmarks_<source>` of each source."""
    return [build_bookmark_sensor(source, running=running) for source in sources]
