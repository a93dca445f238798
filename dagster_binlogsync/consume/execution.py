"""How a run consumes tables: the border between definitions, which import this module, and the run with its engine."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from binlogsync.collection import without_collection
from dagster_binlogsync.consume.config import ConsumeConfig
from dagster_binlogsync.consume.spec import ConsumerSpec
from dagster_binlogsync.resource_keys import SourceResources

ConsumerEvent = dg.MaterializeResult[Any] | dg.AssetCheckResult
RunConsumers = Callable[
    [dg.AssetExecutionContext, ConsumeConfig, Sequence[ConsumerSpec], SourceResources], Iterator[ConsumerEvent]
]
"""Consumes tables in a run: yields their materializations and check results."""


def run_consumers(
    context: dg.AssetExecutionContext,
    config: ConsumeConfig,
    consumers: Sequence[ConsumerSpec],
    resources: SourceResources,
) -> Iterator[ConsumerEvent]:
    """Process the backlog of the tables, then wait for new changes. Yields the materializations and check results.

    Raises dg.Failure if a table is blocked at the end, DagsterExecutionInterruptedError if a user terminated the run.
    """
    with without_collection():
        from dagster_binlogsync.consume.run import consume_tables

    yield from consume_tables(context, config, consumers, resources)
