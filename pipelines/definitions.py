"""The Definitions of this deployment, which `workspace.yaml` names.

Loading requires no server and no environment variable. Sensors and the nightly schedule are off by default, so that
opening the UI does not start to tail a production server; BINLOGSYNC_SENSORS=running switches them on, as in the demo.
The settings are those of the command line (docs/settings.md): pipelines/tails.py makes the options of the tails from
them, resources/ the connections.
"""

import dagster as dg

from binlogsync.modules import import_within
from binlogsync.settings import Settings
from dagster_binlogsync.definitions import build_definitions
from dagster_binlogsync.discovery import ConsumerDefinitions, find_definitions
from dagster_binlogsync.operations.maintenance import build_prune_schedule
from dagster_binlogsync.tail.job import TailConfig
from pipelines.consumer_runs import continuous_config
from pipelines.tails import tail_config
from resources.connections import configured_resources, mysql_keys
from sensors.backlog import build_backlog_sensors
from sensors.bookmarks import build_bookmark_sensors
from sensors.continuous import build_continuous_sensors
from sensors.tail import build_tail_sensors


def build_deployment(
    settings: Settings, consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> dg.Definitions:
    """Build the definitions of the sources and these consumers; `running` switches the sensors on.

    Raises ConfigError for a consumer of a source that is not in the settings.
    """
    names, continuous = settings.sources(), continuous_config(settings)
    return build_definitions(
        mysql_keys(names),
        consumers,
        options,
        resources=configured_resources(settings),
        continuous=continuous,
        sensors=[
            *build_tail_sensors(names, running=running),
            *(
                build_backlog_sensors(names, consumers, options, running=running)
                if continuous is None
                else build_continuous_sensors(names, consumers, running=running)
            ),
            *build_bookmark_sensors(names, running=running),
        ],
        schedules=[build_prune_schedule(running=running)],
    )


_SETTINGS = Settings.read()
defs = build_deployment(
    _SETTINGS,
    find_definitions(import_within(_SETTINGS.consumers())),
    tail_config(_SETTINGS),
    running=_SETTINGS.values.dagster.sensors,
)
