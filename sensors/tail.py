"""Keeps one tail of each source alive."""

from collections.abc import Iterable

import dagster as dg

from dagster_binlogsync.sensors.tail import build_tail_sensor


def build_tail_sensors(sources: Iterable[str], *, running: bool) -> list[dg.SensorDefinition]:
    """The sensor `keep_<source>_tailed` of each source."""
    return [build_tail_sensor(source, running=running) for source in sources]
