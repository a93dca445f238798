"""Reports of checks during a run: what an error kept from being reported is reported in the next round."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from binlogsync.errors import SinkError
from dagster_binlogsync.consume import check_reporter
from dagster_binlogsync.consume.check_reporter import CheckReporter
from dagster_binlogsync.consume.run import ConsumerRun
from dagster_binlogsync.tables import mirror

TABLE = mirror("shop.orders", source="main")


@dataclass(slots=True)
class OneTable:
    """A run with one table, which can be reported once its warehouse can be opened."""

    tables: dict[tuple[str, str], Any] = field(
        default_factory=lambda: {
            ("shop", "orders"): SimpleNamespace(
                consumer=TABLE.consumer, error=None, target=SimpleNamespace(repairs_gaps=False)
            )
        }
    )
    context: Any = field(default_factory=lambda: SimpleNamespace(instance=None))
    source: str = "main"
    errors: list[Exception] = field(default_factory=list)

    @property
    def resources(self) -> Any:
        return SimpleNamespace(jetstream=self)

    @contextmanager
    def reader(self, source: str, *, patience_s: float) -> Iterator[Any]:
        yield SimpleNamespace(pending_counts=dict)

    def find_unloaded(self) -> set[object]:
        return set()

    def check_gaps(self, table: Any) -> dg.AssetCheckResult:
        if self.errors:
            raise self.errors.pop()
        return dg.AssetCheckResult(passed=True, check_name="no_gap", asset_key=TABLE.key)


@pytest.mark.parametrize("error", [SinkError("NATS is away"), OSError("the disk is full")])
def test_checks_are_reported_again_after_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str | None] = []
    monkeypatch.setattr(check_reporter, "EVERY_S", 0.0)
    monkeypatch.setattr(check_reporter, "report_check", lambda _, result: reported.append(result.check_name))
    run = OneTable(errors=[error])
    reporter = CheckReporter(cast(ConsumerRun, run))
    for _ in range(5):
        reporter.step()
    assert reported == ["backlog", "handled", "no_gap"]
