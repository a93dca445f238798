"""The Definitions of this deployment, which `workspace.yaml` names.

Loading requires no server and no environment variable. Sensors and the nightly schedule are off by default, so that
opening the UI does not start to tail a production server; BINLOGSYNC_SENSORS=running switches them on, as in the demo.
Settings of the tails are in pipelines/tails.py, sources and connections in resources/, sensors in sensors/.
"""

from collections.abc import Sequence

import dagster as dg

from binlogsync.modules import import_within
from dagster_binlogsync.definitions import build_definitions
from dagster_binlogsync.discovery import ConsumerDefinitions, find_definitions
from dagster_binlogsync.operations.maintenance import build_prune_schedule
from dagster_binlogsync.tail.job import TailConfig
from pipelines.tails import tail_config
from resources import environment
from resources.connections import configured_resources
from resources.sources import SourceSettings, configured_sources
from sensors.backlog import build_backlog_sensors
from sensors.bookmarks import build_bookmark_sensors
from sensors.tail import build_tail_sensors


def build_deployment(
    sources: Sequence[SourceSettings], consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> dg.Definitions:
    """Build the definitions of these sources and consumers; `running` switches the sensors on. Raises ConfigError."""
    names = [source.name for source in sources]
    return build_definitions(
        {source.name: source.mysql_key for source in sources},
        consumers,
        options,
        resources=configured_resources(sources),
        sensors=[
            *build_tail_sensors(names, running=running),
            *build_backlog_sensors(names, consumers, running=running),
            *build_bookmark_sensors(names, running=running),
        ],
        schedules=[build_prune_schedule(running=running)],
    )


defs = build_deployment(
    configured_sources(),
    find_definitions(import_within(environment.value("BINLOGSYNC_CONSUMERS", "pipelines.consumers"))),
    tail_config(),
    running=environment.switch("BINLOGSYNC_SENSORS", False),
)
