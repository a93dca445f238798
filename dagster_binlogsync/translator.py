"""How a table appears in Dagster: `BinlogsyncTranslator.get_asset_spec` makes the asset spec of a consumer.

A project overrides it to choose keys, groups, owners, tags or automation conditions:

    class Translator(BinlogsyncTranslator):
        def get_asset_spec(self, props: BinlogsyncTableProps) -> dg.AssetSpec:
            return super().get_asset_spec(props).replace_attributes(group_name=props.name.database)
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg

from binlogsync.table_list import ListedTable
from dagster_binlogsync.column_metadata import listed_columns
from dagster_binlogsync.keys import TableName


@dataclass(frozen=True, slots=True)
class AssetOptions:
    """Presentation of the asset in Dagster.

    Attributes:
        group: asset group.
        fresh_within: time without a consumed change after which the asset is stale; None for no freshness policy.
        description: description of the asset; None for the comment of the table in MySQL, if it is known.
        tags: tags of the asset.
        shows: (schema, table) of the warehouse whose row count and first rows a run reports; None for none.
        owners: owners of the asset, each an email address or "team:name".
    """

    group: str = "tables"
    fresh_within: timedelta | None = None
    description: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    shows: tuple[str, str] | None = None
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BinlogsyncTableProps:
    """A table of a source and its consumer, as the translator gets them.

    Attributes:
        name: the table.
        is_mirror: whether the consumer is a mirror, not a handler.
        options: the options of `mirror` or `table_consumer`.
        description: the default description.
        location: (schema, table) in the warehouse; None for a handler that names none.
        listed: columns and comments of the table, from the list of tables (`binlogsync tables`); None if not known.
    """

    name: TableName
    is_mirror: bool
    options: AssetOptions = field(default_factory=AssetOptions)
    description: str | None = None
    location: tuple[str, str] | None = None
    listed: ListedTable | None = None


class BinlogsyncTranslator:
    """The default translation of tables to asset specs."""

    def get_asset_spec(self, props: BinlogsyncTableProps) -> dg.AssetSpec:
        """The spec of the asset that the consumer of the table materializes. Its dependencies are replaced."""
        name, options = props.name, props.options
        within = options.fresh_within
        metadata: dict[str, Any] = dict(name_metadata(name))
        if props.location is not None:
            metadata["dagster/table_name"] = ".".join(props.location)
        if props.is_mirror and props.listed is not None:
            metadata["dagster/column_schema"] = listed_columns(props.listed)
        return dg.AssetSpec(
            name.consumer_key,
            deps=[name.stream_key],
            group_name=options.group,
            kinds={"duckdb"} if props.is_mirror else {"python"} | ({"duckdb"} if props.location else set()),
            description=options.description or props.description,
            metadata=metadata,
            tags=dict(options.tags),
            owners=options.owners,
            freshness_policy=None if within is None else dg.FreshnessPolicy.time_window(fail_window=within),
        )


def name_metadata(name: TableName) -> dict[str, str]:
    """The original MySQL names, for asset keys with replaced characters."""
    return {"mysql/database": name.database, "mysql/table": name.table, "binlogsync/source": name.source}
