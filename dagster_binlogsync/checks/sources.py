"""Asset checks of the binlog that query MySQL: `positions_kept` and `server_unchanged`.

For manual or scheduled runs. source_state.py evaluates them.
"""

import dagster as dg

from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.resource_keys import ResourceKeys


def build_source_checks(source: str, keys: ResourceKeys) -> list[dg.AssetChecksDefinition]:
    """The checks `positions_kept` and `server_unchanged` of the binlog asset of the source."""
    required = keys.require(("mysql", "positions"))

    @dg.asset_check(
        asset=binlog_key(source),
        name="positions_kept",
        required_resource_keys=required,
        description="MySQL keeps the binlogs that the tail and manual bookmarks need for at least 12 more hours.",
    )
    def _kept(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from dagster_binlogsync.checks.source_state import positions_kept

        resources = keys.find(context)
        with resources.positions.store() as store:
            return positions_kept(resources.mysql.config(source), store, source)

    @dg.asset_check(
        asset=binlog_key(source),
        name="server_unchanged",
        required_resource_keys=required,
        description="Server, version and binlog settings have not changed since the last start of the tail; server "
        "ids are unique and clocks agree.",
    )
    def _unchanged(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from dagster_binlogsync.checks.source_state import server_unchanged

        resources = keys.find(context)
        with resources.positions.store() as store:
            return server_unchanged(resources.mysql.config(source), store, source)

    return [_kept, _unchanged]
