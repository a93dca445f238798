"""What a person sees in Dagster's UI: lineage, plots, the run with Terminate, a mirror, the sensors, a replay.

One demo for all tests, and pictures of every page in .screenshots/. The last test presses Terminate, so it stays last.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
from playwright.sync_api import Page, expect

from binlogsync.bookmarks import Bookmark
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.targets.duckdb.file import DuckFile
from dagster_binlogsync.keys import TableName, binlog_key
from pipelines.demo.stack import SOURCE, Stack, dagster, start_servers
from pipelines.demo.workload import DemoWorkload, create
from tests.browser.chromium import HEIGHT, WIDTH, chromium, find_chromium, ink, page_errors, read_page
from tests.waiting import wait_until

PICTURES = Path(__file__).parents[2] / ".screenshots"
TABLES = [TableName.parse(name, SOURCE) for name in ("shop.customers", "shop.orders", "shop.order_items")]
REPLAYED = TABLES[1]
OBSERVATIONS = 3
PARTITIONS = 200
LEAST_INK = 0.004
CANCELED = dg.DagsterRunStatus.CANCELED
BANNERS = (
    "An unexpected error",
    "GraphQL error",
    "PythonError",
    "Failed to load",
    "Error loading",
    "Something went wrong",
    "Page not found",
)

Found = TypeVar("Found")

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of Chromium; CI has to have it."""
    path = find_chromium()
    if path is None:
        reason = "Chromium is not installed: as root, tests/browser/install.sh installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def stack(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The demo, once its tail has reported a few times and all mirrors are there.

    Its workload ends before the tests begin: what most pages show is there, and the processors are free for them.
    """
    folder = tmp_path_factory.mktemp("ui")
    with start_servers(folder) as (mysql, nats):
        create(mysql)
        with dagster(mysql, nats, folder, free_port()) as running:
            with DemoWorkload(mysql, rate=10):
                # Partitions before the bookmarks, more than the dialog shows at once. They come first because Dagster
                # takes seconds to start.
                with instance_of(running) as instance:
                    instance.add_dynamic_partitions("bookmarks_main", [f"added_{n:03}" for n in range(PARTITIONS)])
                look(running, 120, "observations of the tail", has_observations)
                look(running, 60, "all mirrors", have_materialized)
            yield running


@pytest.fixture(scope="module")
def page(browser: str, stack: Stack) -> Iterator[Page]:
    """A browser's only page."""
    with chromium(browser) as opened:
        yield opened


@pytest.fixture(autouse=True)
def errors(page: Page) -> Iterator[list[str]]:
    """What failed in the page during the test; no test may leave any."""
    with page_errors(page) as found:
        yield found
    assert found == []


def test_lineage_reads_from_mysql_over_the_stream_to_the_tables(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.ui}/asset-groups")
    read_page(page, "mysql", "stream", "tables", "Materialize all")
    page.keyboard.press("Alt+e")  # expand all groups
    text = read_page(page, "binlog", "customers", "orders", "order_items", "holes", "DuckDB", "MySQL", "nats")
    assert text.count("order_items") >= 3, "in MySQL, in the stream, and as a mirror"
    kept(page, "lineage")


def test_the_binlog_has_plots_of_lag_and_rates(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.ui}/assets/{'/'.join(binlog_key(SOURCE).path)}")
    read_page(page, "The binary log of main", "lag_s", "position", "binlog.0")
    kept(page, "binlog")
    page.get_by_text("Plots", exact=True).click()
    read_page(page, "bytes_per_s", "changes_per_s", "lag_s", "transactions_per_s")
    expect(page.locator("canvas").nth(3)).to_be_visible()
    page.set_viewport_size({"width": WIDTH, "height": 2 * HEIGHT})
    kept(page, "plots")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def test_a_mirror_shows_its_rows_and_what_was_done(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.ui}/assets/{'/'.join(TABLES[1].consumer_key.path)}")
    text = read_page(page, "Row count", "changes_per_s", "preview", "Mirror of shop.orders", "placed_at")
    assert "Never materialized" not in text
    kept(page, "mirror")


def test_the_sensors_are_on(page: Page, stack: Stack) -> None:
    page.goto(f"{stack.ui}/automation")
    read_page(page, "keep_main_tailed", "consume_main", "prune_runs_nightly")
    expect(page.get_by_text(" ago").nth(1)).to_be_visible()  # two sensors have had a tick
    kept(page, "automation")


@pytest.mark.exhaustive
def test_three_bookmarks_are_replayed_with_a_few_clicks(page: Page, stack: Stack) -> None:
    name = REPLAYED
    with closing(SQLitePositionStore(stack.positions)) as store, DemoWorkload(stack.mysql, rate=10, seed=8):
        bookmarks = wait_until(lambda: bookmarks_with_changes(stack, store), 120, "bookmarks with changes between")
    keys, key = [bookmark.key for bookmark in bookmarks[:3]], name.replay_key
    look(stack, 60, "partitions", lambda instance: {*keys} <= {*instance.get_dynamic_partitions("bookmarks_main")})

    page.goto(f"{stack.ui}/assets/{'/'.join(key.path)}")
    read_page(page, "Replays past changes of shop.orders", "Never materialized")
    page.get_by_role("button", name="Materialize…").click()
    read_page(page, "Launch runs to materialize", "Backfills all partitions in a single run.")
    page.get_by_text("Select a partition or create one").click()
    for chosen in keys:
        page.get_by_placeholder("Filter partitions").fill(chosen)  # the list has only the rows in view
        page.get_by_title(chosen, exact=True).click()
    read_page(page, "3 partitions")
    kept(page, "replay_chosen")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch backfill").click()
    look(stack, 120, "a replay", lambda instance: {*keys} <= instance.get_materialized_partitions(key))

    expected = [audit_counts(stack, name, *ends) for ends in pairwise(bookmarks)]
    for chosen, counts in zip(keys, expected, strict=True):
        page.goto(f"{stack.ui}/assets/{'/'.join(key.path)}?view=partitions&partition={chosen}")
        text = read_page(page, "Materialized (3)", "run_changes_per_s", "read_from")
        shown = {what: shown_number(text, what) for what in ("changes", *counts, "run_changes")}
        assert shown == {"changes": sum(counts.values()), **counts, "run_changes": sum_of(expected)}
    kept(page, "replay_partition")
    with instance_of(stack) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"dagster/asset_partition_range_start": keys[0]}))
        assert run.status == dg.DagsterRunStatus.SUCCESS
    page.goto(f"{stack.ui}/runs/{run.run_id}")
    read_page(page, "Success", "ASSET_MATERIALIZATION")
    kept(page, "replay_run")


def test_terminate_stops_the_tail_and_the_keeper_respects_it(page: Page, stack: Stack) -> None:
    with instance_of(stack) as instance:
        run = newest_tail(instance)
    assert run.status == dg.DagsterRunStatus.STARTED
    page.goto(f"{stack.ui}/runs/{run.run_id}")
    read_page(page, "Terminate", "tail_main_binlog", "ASSET_OBSERVATION")
    kept(page, "tail_run")

    page.get_by_text("Terminate", exact=True).click()
    read_page(page, "1 run will be terminated")
    kept(page, "terminate")
    page.get_by_role("button", name="Terminate 1 run").click()
    look(stack, 60, "the run to be CANCELED", lambda instance: newest_tail(instance).status == CANCELED)
    read_page(page, "Canceled")
    kept(page, "tail_canceled", least_ink=0.0)

    said = look(stack, 60, "the keeper to hold", keeper_holds)
    assert "switch" in said
    with instance_of(stack) as instance:
        assert newest_tail(instance).run_id == run.run_id, "the keeper started a tail that a person had stopped"
    page.goto(f"{stack.ui}/locations/__repository__@binlogsync/sensors/keep_main_tailed")
    read_page(page, "keep_main_tailed", "0 runs requested")
    page.get_by_role("button", name="0 runs requested").first.click()
    read_page(page, "stopped by a user")
    kept(page, "keeper_holds")


def kept(page: Page, name: str, *, least_ink: float = LEAST_INK) -> None:
    """Save a screenshot once the page has loaded; fails if the page is blank or shows an error banner."""
    wait_until(lambda: "Loading" not in read_page(page), 20, f"the page of {name}.png to load")
    assert ink(page.screenshot(path=PICTURES / f"{name}.png")) >= least_ink, f"{name}.png is blank"
    text = read_page(page)
    assert [banner for banner in BANNERS if banner in text] == [], text


def free_port() -> int:
    """A port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def of_intervals(store: SQLitePositionStore) -> list[Bookmark]:
    """The bookmarks that lie minutes apart, the newest left out, which has no end yet."""
    return [bookmark for bookmark in store.bookmarks.load(SOURCE) if bookmark.reason == "interval"][:-1]


def bookmarks_with_changes(stack: Stack, store: SQLitePositionStore) -> list[Bookmark]:
    """Four bookmarks in a row with changes of REPLAYED after each of the first three; none if there are none yet."""
    bookmarks = of_intervals(store)
    for first in range(len(bookmarks) - 3):
        four = bookmarks[first : first + 4]
        if all(sum(audit_counts(stack, REPLAYED, *ends).values()) for ends in pairwise(four)):
            return four
    return []


def audit_counts(stack: Stack, name: TableName, start: Bookmark, until: Bookmark) -> dict[str, int]:
    """Number of changes of the table between two positions of one binlog file, by op, from the audit log."""
    first, last = start.checkpoint.position, until.checkpoint.position
    assert first.file == last.file
    counts = {"created": "c", "updated": "u", "deleted": "d"}
    with DuckFile(stack.audit).transaction() as connection:
        rows = connection.execute(
            "SELECT op, count(*) FROM changes WHERE database = ? AND table_name = ? AND file = ? AND txn_pos >= ? "
            "AND txn_pos < ? GROUP BY op",
            [name.database, name.table, first.file, first.pos, last.pos],
        ).fetchall()
    return {what: dict(rows).get(op, 0) for what, op in counts.items()}


def sum_of(counts: list[dict[str, int]]) -> int:
    """All changes."""
    return sum(sum(each.values()) for each in counts)


def shown_number(text: str, what: str) -> int:
    """The number in the row of the metadata table that begins with `what`."""
    match = re.search(rf"^{what}\s+([0-9,]+)\s*$", text, re.MULTILINE)
    assert match is not None, f"no {what} in:\n{text}"
    return int(match[1].replace(",", ""))


def instance_of(stack: Stack) -> dg.DagsterInstance:
    """Dagster's storage of the demo; to be closed."""
    return dg.DagsterInstance.from_config(str(stack.dagster_home))


def look(stack: Stack, timeout_s: float, what: str, at: Callable[[dg.DagsterInstance], Found]) -> Found:
    """Look at Dagster's storage until there is something; quotes the end of Dagster's log where there is not."""
    with instance_of(stack) as instance:
        try:
            return wait_until(lambda: at(instance), timeout_s, what)
        except AssertionError as error:
            lines = stack.dagster_log.read_text(errors="replace").splitlines()[-30:]
            raise AssertionError("\n".join([str(error), *lines])) from error


def has_observations(instance: dg.DagsterInstance) -> bool:
    """True once the tail has reported often enough for a plot."""
    return len(instance.fetch_observations(binlog_key(SOURCE), limit=OBSERVATIONS).records) >= OBSERVATIONS


def have_materialized(instance: dg.DagsterInstance) -> bool:
    """True once the consumers of all tables have."""
    return all(instance.get_latest_materialization_event(name.consumer_key) is not None for name in TABLES)


def newest_tail(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """The newest run of the tail's job."""
    return instance.get_runs(dg.RunsFilter(job_name=f"tail_{SOURCE}"), limit=1)[0]


def keeper_holds(instance: dg.DagsterInstance) -> str:
    """The skip message of the tail sensor after Terminate; empty until there is one."""
    for state in instance.all_instigator_state():
        if state.name == f"keep_{SOURCE}_tailed":
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=3):
                if "stopped by a user" in (tick.skip_reason or ""):
                    return str(tick.skip_reason)
    return ""
