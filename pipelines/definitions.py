"""The Definitions of this deployment, which `workspace.yaml` names.

Loading requires no server and no environment variable. Sensors and the nightly schedule are off by default, so that
opening the UI does not start to tail a production server; BINLOGSYNC_SENSORS=running switches them on, as in the demo.
The settings are those of the command line (docs/settings.md): resources/ makes the connections from them.
"""

import dagster as dg

from binlogsync.modules import import_within
from binlogsync.settings import Settings
from dagster_binlogsync.definitions import build_definitions
from dagster_binlogsync.discovery import ConsumerDefinitions, find_definitions
from dagster_binlogsync.operations.maintenance import build_prune_schedule, prune_job
from dagster_binlogsync.options import build_tail_config
from dagster_binlogsync.tail.job import TailConfig
from resources.connections import configured_resources, resource_keys
from sensors.sources import build_sensors


def build_deployment(
    settings: Settings, consumers: ConsumerDefinitions, options: TailConfig, *, running: bool
) -> dg.Definitions:
    """Build the definitions of the sources and these consumers; `running` switches the sensors on.

    Raises ConfigError for a consumer of a source that is not in the settings.
    """
    built = build_definitions(
        settings,
        consumers,
        tail=options,
        running=running,
        keys=resource_keys(settings.sources()),
        resources=configured_resources(settings),
        sensors=build_sensors(settings, consumers, options, running=running),
    )
    # A library leaves these to the project. Runs of one step start faster without a process per step.
    own = dg.Definitions(
        jobs=[prune_job], schedules=[build_prune_schedule(running=running)], executor=dg.in_process_executor
    )
    return dg.Definitions.merge(built, own)


_SETTINGS = Settings.read()
defs = build_deployment(
    _SETTINGS,
    find_definitions(import_within(_SETTINGS.consumers())),
    build_tail_config(_SETTINGS),
    running=_SETTINGS.values.dagster.sensors,
)
