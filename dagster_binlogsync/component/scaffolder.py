"""Scaffolding of the component: `dg scaffold defs dagster_binlogsync.BinlogSyncComponent NAME`."""

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field


class BinlogSyncScaffoldParams(BaseModel):
    """Parameters of the scaffold command, each an option of it."""

    source: str = Field(default="main", description="Name of the source.")
    host: str = Field(default="127.0.0.1", description="Host of the MySQL server.")
    port: int = Field(default=3306, description="Port of the MySQL server.")
    user: str = Field(default="binlogsync", description="Account on the MySQL server.")
    nats: str = Field(
        default="", description="Address of NATS, without a login. Default: that of the variable NATS_URL."
    )
    tables: str = Field(default="shop.*", description="Tables to mirror, separated by commas.")


class BinlogSyncScaffolder(dg.Scaffolder[BinlogSyncScaffoldParams]):
    """Writes the YAML of a source; its password, and the address of NATS with a login, stay in the environment."""

    @classmethod
    def get_scaffold_params(cls) -> type[BinlogSyncScaffoldParams]:
        """The model of the parameters."""
        return BinlogSyncScaffoldParams

    def scaffold(self, request: dg.ScaffoldRequest[BinlogSyncScaffoldParams]) -> None:
        """Write defs.yaml."""
        params = request.params
        scaffold_component(
            request,
            {
                "source": params.source,
                "mysql": {
                    "host": params.host,
                    "port": params.port,
                    "user": params.user,
                    "password": "{{ secret('MYSQL_PASSWORD') }}",
                },
                "nats": {"url": params.nats or "{{ secret('NATS_URL') }}"},
                "tables": [name.strip() for name in params.tables.split(",") if name.strip()],
                "sensors": "stopped",
            },
        )
