"""Keeps the consumers of each source live."""

from collections.abc import Iterable

import dagster as dg

from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.sensors.continuous import build_continuous_sensor


def build_continuous_sensors(
    sources: Iterable[str], consumers: ConsumerDefinitions, *, running: bool
) -> list[dg.SensorDefinition]:
    """The sensor `keep_<source>_consumed` of each source that has consumers."""
    return [build_continuous_sensor(source, running=running) for source in sources if consumers.of(source)]
