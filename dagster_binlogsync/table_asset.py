"""A table of a source and its consumer as Dagster assets: the table, its stream and the consumer, in this order."""

from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from dagster_binlogsync.consume.checks import CHECKS
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.keys import TableName, binlog_key


@dataclass(frozen=True, slots=True)
class TableAsset:
    """A table of a source and its consumer in Dagster.

    Attributes:
        consumer: the table and the target of its changes.
        options: presentation of the asset.
        is_mirror: whether the target is a mirror, not a handler.
    """

    consumer: ConsumerSpec
    options: "AssetOptions"
    is_mirror: bool

    @property
    def name(self) -> TableName:
        """Name of the table."""
        return self.consumer.name

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the consumer, for `deps` of downstream assets."""
        return self.name.consumer_key

    @property
    def durable(self) -> str:
        """Name of the durable consumer in JetStream."""
        return self.consumer.durable

    @property
    def spec(self) -> dg.AssetSpec:
        """Asset spec of the consumer."""
        name, options = self.name, self.options
        within = options.fresh_within
        return dg.AssetSpec(
            name.consumer_key,
            deps=[name.stream_key],
            group_name=options.group,
            kinds={"duckdb"},
            description=options.description,
            metadata=_name_metadata(name),
            tags=dict(options.tags),
            freshness_policy=None if within is None else dg.FreshnessPolicy.time_window(fail_window=within),
        )

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """The checks that the consumer run itself reports."""
        return [dg.AssetCheckSpec(name, asset=self.key, description=text) for name, text in CHECKS]

    @property
    def upstream(self) -> tuple[dg.AssetSpec, dg.AssetSpec]:
        """The table in MySQL, and its subject in JetStream."""
        name = self.name
        metadata = _name_metadata(name)
        return (
            dg.AssetSpec(
                name.mysql_key,
                group_name="mysql",
                kinds={"mysql"},
                description=f"The table {name.markdown} in MySQL. Its changes are in the binary log.",
                metadata=metadata,
            ),
            dg.AssetSpec(
                name.stream_key,
                deps=[name.mysql_key, binlog_key(name.source)],
                group_name="stream",
                kinds={"nats"},
                description=f"The changes of {name.markdown} in JetStream, in order, published by the tail.",
                metadata=metadata,
            ),
        )


@dataclass(frozen=True, slots=True)
class AssetOptions:
    """Presentation of the asset in Dagster.

    Attributes:
        group: asset group.
        fresh_within: time without a consumed change after which the asset is stale; None for no freshness policy.
        description: description of the asset.
        tags: tags of the asset.
        shows: (schema, table) of the warehouse whose row count and first rows a run reports; None for none.
    """

    group: str = "tables"
    fresh_within: timedelta | None = None
    description: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    shows: tuple[str, str] | None = None


def _name_metadata(name: TableName) -> dict[str, str]:
    """The original MySQL names, for asset keys with replaced characters."""
    return {"mysql/database": name.database, "mysql/table": name.table, "binlogsync/source": name.source}
