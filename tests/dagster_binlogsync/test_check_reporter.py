"""Reports of checks during a run: what an error kept from being reported is reported in the next round."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from binlogsync.errors import SinkError, TargetBusyError
from binlogsync.targets import Holder
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
    logged: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    source: str = "main"
    errors: list[Exception] = field(default_factory=list)

    holder: Holder | None = None
    pending: dict[str, int] = field(default_factory=dict)

    @property
    def context(self) -> Any:
        return SimpleNamespace(instance=None, log_event=self.logged.append)

    @property
    def resources(self) -> Any:
        warehouse = SimpleNamespace(path="w.duckdb", find_holder=lambda held_s: self.holder)
        return SimpleNamespace(jetstream=self, warehouse=warehouse)

    @contextmanager
    def reader(self, source: str, *, patience_s: float) -> Iterator[Any]:
        yield SimpleNamespace(pending_counts=lambda: self.pending)

    def find_unloaded(self) -> set[object]:
        return set()

    def check_gaps(self, table: Any) -> dg.AssetCheckResult:
        if self.errors:
            raise self.errors.pop()
        return dg.AssetCheckResult(passed=True, check_name="no_gap", asset_key=TABLE.key)


@pytest.mark.parametrize(
    "error", [SinkError("NATS is away"), OSError("the disk is full"), TargetBusyError("w.duckdb is open", "w.duckdb")]
)
def test_checks_are_reported_again_after_an_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_reporter, "EVERY_S", 0.0)
    run = OneTable(errors=[error])
    reporter = CheckReporter(cast(ConsumerRun, run))
    for _ in range(5):
        reporter.step()
    assert [each.check_name for each in run.logged] == ["backlog", "handled", "no_gap"], "in the run, once"


def test_a_table_that_waits_for_another_process_names_it_until_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[tuple[str | None, bool, str]] = []
    monkeypatch.setattr(check_reporter, "EVERY_S", 0.0)
    monkeypatch.setattr(
        check_reporter,
        "report_check",
        lambda _, result: reported.append((result.check_name, result.passed, result.description or "")),
    )
    run = OneTable(holder=Holder("process 7 (notebook.py)", 0.0))
    reporter = CheckReporter(cast(ConsumerRun, run))
    reporter.step()
    assert reported == [], "no message waits"
    run.pending = {TABLE.durable: 3}
    for _ in range(5):
        reporter.step()
    [(name, passed, text)] = reported
    assert (name, passed) == ("backlog", False)
    assert "3 message(s) are waiting: process 7 (notebook.py) has had w.duckdb open" in text
    run.holder, run.pending = None, {}
    for _ in range(5):
        reporter.step()
    assert [(name, passed) for name, passed, _ in reported[1:]] == [("backlog", True)], "after the warning"
    assert [(each.check_name, each.passed) for each in run.logged] == [("handled", True), ("no_gap", True)]
