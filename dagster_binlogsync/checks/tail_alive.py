"""The asset check `tail_alive` of a binlog: the tail renews its lease."""

import dagster as dg

from binlogsync.escaping import markdown
from binlogsync.stores import Lease
from binlogsync.tail.supervision import SupervisionRules
from dagster_binlogsync.keys import binlog_key
from dagster_binlogsync.resource_keys import ResourceKeys


def build_tail_alive_check(source: str, keys: ResourceKeys) -> dg.AssetChecksDefinition:
    """The check `tail_alive` of the binlog asset of the source."""

    @dg.asset_check(
        asset=binlog_key(source),
        name="tail_alive",
        required_resource_keys=keys.require(("positions",)),
        description="The tail of this source renewed its lease recently.",
    )
    def _alive(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with keys.find(context).positions.store() as store:
            return tail_alive(store.leases.load(source))

    return _alive


def tail_alive(lease: Lease | None, rules: SupervisionRules | None = None) -> dg.AssetCheckResult:
    """Passes if the lease is held and was renewed recently."""
    if lease is None:
        return dg.AssetCheckResult(
            passed=False, description="No tail of this source has run yet; switch its sensor on."
        )
    last_action = "released the lease" if lease.released else "renewed the lease"
    return dg.AssetCheckResult(
        passed=not lease.released and lease.age_s <= (rules or SupervisionRules()).stale_s,
        description=f"{markdown(lease.owner)} {last_action} {lease.age_s:.0f} s ago.",
        metadata={"owner": lease.owner, "epoch": lease.epoch, "age_s": round(lease.age_s, 1)},
    )
