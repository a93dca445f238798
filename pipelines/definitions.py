"""The Definitions of this deployment, which `workspace.yaml` names.

Loading requires no server and no environment variable. Sensors and the nightly schedule are off by default, so that
opening the UI does not start to tail a production server; BINLOGSYNC_SENSORS=running switches them on, as in the demo.
The settings are those of the command line (docs/settings.md): resources/ makes the connections from them.
"""

from types import ModuleType

import dagster as dg

from binlogsync.modules import import_within
from binlogsync.settings import Settings
from dagster_binlogsync.definitions import build_definitions
from dagster_binlogsync.discovery import ConsumerDefinitions
from dagster_binlogsync.tail.job import TailConfig
from resources.connections import resource_keys
from sensors.maintenance import build_maintenance


def build_deployment(
    settings: Settings, consumers: ConsumerDefinitions | ModuleType, options: TailConfig | None = None, *, running: bool
) -> dg.Definitions:
    """Build the definitions of the sources and these consumers; `running` switches the sensors on.

    Raises ConfigError for a consumer of a source that is not in the settings.
    """
    built = build_definitions(
        settings, consumers, tail=options, running=running, keys=resource_keys(settings.sources())
    )
    # A library leaves the executor to the project. Runs of one step start faster without a process per step.
    own = dg.Definitions(executor=dg.in_process_executor)
    return dg.Definitions.merge(built, build_maintenance(running=running), own)


_SETTINGS = Settings.read()
defs = build_deployment(_SETTINGS, import_within(_SETTINGS.consumers()), running=_SETTINGS.values.dagster.sensors)
