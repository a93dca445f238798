"""A table of a source and its consumer as Dagster assets: the table, its stream and the consumer, in this order."""

from dataclasses import dataclass, field, replace

import dagster as dg

from binlogsync.escaping import markdown
from binlogsync.table_list import ListedTable
from dagster_binlogsync.consume.checks import CHECKS
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.keys import TableName, binlog_key
from dagster_binlogsync.translator import AssetOptions, BinlogsyncTableProps, BinlogsyncTranslator, name_metadata

__all__ = ["AssetOptions", "TableAsset"]


@dataclass(frozen=True, slots=True)
class TableAsset:
    """A table of a source and its consumer in Dagster; `build` makes it.

    Attributes:
        consumer: the table and the target of its changes.
        options: presentation of the asset.
        is_mirror: whether the target is a mirror, not a handler.
        spec: asset spec of the consumer.
        listed: columns and comments of the table; None if they are not known.
        description: the default description.
    """

    consumer: ConsumerSpec
    options: AssetOptions
    is_mirror: bool
    spec: dg.AssetSpec = field(compare=False)
    listed: ListedTable | None = field(default=None, compare=False)
    description: str | None = None

    @classmethod
    def build(
        cls,
        consumer: ConsumerSpec,
        options: AssetOptions,
        *,
        is_mirror: bool,
        listed: ListedTable | None = None,
        description: str | None = None,
        translator: BinlogsyncTranslator | None = None,
    ) -> "TableAsset":
        """The consumer with the asset spec that the translator gives it."""
        name = consumer.name
        description = description or (_describe(name, listed) if is_mirror else None)
        props = BinlogsyncTableProps(name, is_mirror, options, description, consumer.location, listed)
        spec = (translator or BinlogsyncTranslator()).get_asset_spec(props)
        if [dep.asset_key for dep in spec.deps] != [name.stream_key]:
            others = [dep for dep in spec.deps if dep.asset_key != name.stream_key]
            spec = spec.replace_attributes(deps=[name.stream_key, *others])
        return cls(replace(consumer, key=spec.key, listed=listed), options, is_mirror, spec, listed, description)

    def translate(self, translator: BinlogsyncTranslator) -> "TableAsset":
        """The same consumer with the asset spec of another translator."""
        return self.build(
            self.consumer, self.options, is_mirror=self.is_mirror, listed=self.listed, description=self.description,
            translator=translator,
        )  # fmt: skip

    @property
    def name(self) -> TableName:
        """Name of the table."""
        return self.consumer.name

    @property
    def key(self) -> dg.AssetKey:
        """Asset key of the consumer, for `deps` of downstream assets."""
        return self.spec.key

    @property
    def durable(self) -> str:
        """Name of the durable consumer in JetStream."""
        return self.consumer.durable

    @property
    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """The checks that the consumer run itself reports."""
        return [dg.AssetCheckSpec(name, asset=self.key, description=text) for name, text in CHECKS]

    @property
    def upstream(self) -> tuple[dg.AssetSpec, dg.AssetSpec]:
        """The table in MySQL, and its subject in JetStream."""
        name = self.name
        metadata = name_metadata(name)
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


def _describe(name: TableName, listed: ListedTable | None) -> str:
    text = f"Mirror of {name.markdown}: a DuckDB table that stays equal to the MySQL table."
    return f"{text} {markdown(listed.comment)}" if listed is not None and listed.comment else text
