"""The multi-asset of the tables of a source: one step that consumes any of them.

Two things are done without the decorator, whose cost grows with the square of the number of tables. The step has no
input for the streams of its tables, which no step of Dagster makes: dependencies that are only lineage are in the asset
specs. With an input for each of 1,500 tables, Dagster compares each input with each check, in each job. And the outputs
of the checks are added here: `multi_asset` compares each check with each asset.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from dagster_binlogsync.table_asset import TableAsset


def build_table_step(
    function: Callable[..., Any],
    name: str,
    tables: Sequence[TableAsset],
    *,
    required_resource_keys: set[str] | None = None,
    pool: str | None = None,
    op_tags: Mapping[str, Any] | None = None,
) -> dg.AssetsDefinition:
    """The assets of the tables with the checks that runs report; `function` consumes the selected ones."""
    made = dg.multi_asset(
        name=name,
        specs=[_without_stream(table) for table in tables],
        can_subset=True,
        required_resource_keys=required_resource_keys,
        pool=pool,
        op_tags=op_tags,
    )(function)
    # Not `get_python_identifier`: the check `backlog` of `orders` would have the name of the asset `orders_backlog`.
    checks = {f"_check_{check.get_python_identifier()}": check for table in tables for check in table.check_specs}
    step = dg.op(
        name=name,
        ins={each.name: dg.In.from_definition(each) for each in made.op.input_defs},
        out={
            **{each.name: dg.Out.from_definition(each) for each in made.op.output_defs},
            **dict.fromkeys(checks, dg.Out(dagster_type=None, is_required=False)),
        },
        required_resource_keys=required_resource_keys,
        pool=pool,
        tags=op_tags,
    )(function)
    return dg.AssetsDefinition(
        keys_by_input_name=made.keys_by_input_name,
        keys_by_output_name=made.keys_by_output_name,
        node_def=step,
        can_subset=True,
        specs=[table.spec for table in tables],
        check_specs_by_output_name=checks,
    )


def _without_stream(table: TableAsset) -> dg.AssetSpec:
    return table.spec.replace_attributes(
        deps=[dep for dep in table.spec.deps if dep.asset_key != table.name.stream_key]
    )
