"""A consumer for any Python program: passes the changes of a NATS stream to handlers, without Dagster or files.

    consumer = Consumer("client1", url="nats://127.0.0.1:4222", source="main")

    @consumer.register(Hole, table="treehole.holes")
    def on_hole(change: Change[Hole]) -> None:
        print(change.op, change.before, "->", change.after)

    consumer.run()                     # until stop(), Ctrl-C or SIGTERM; or: await consumer.run_async()

Every client id gets every change, in order within each table, as soon as it is in the stream. The tables share a few
connections, and up to `max_workers` handlers run at a time. Progress is stored in NATS within a second after the
handler returned: delivery is at least once, and `change.id` identifies a change that is delivered again after a kill.
With `progress="file.duckdb"` progress is stored in that DuckDB file instead, and a handler with a second parameter gets
its connection: what the handler writes there is applied exactly once. A handler that raises is retried with exponential
backoff until it succeeds; later changes of its table wait, other tables continue. A second live client with the same id
is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, overload

from binlogsync.bookmarks import Bookmark
from binlogsync.codec.subjects import check_source, parse_table
from binlogsync.consume.client_lease import ClientLease
from binlogsync.consume.continuous import ContinuousOptions, ContinuousPool
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.event_loop import RunCoroutine, run_in_shared_loop, run_in_thread
from binlogsync.consume.handler import Handler
from binlogsync.consume.handler_signature import HandlerFunction
from binlogsync.consume.pool import ConsumerTask, TableReport
from binlogsync.consume.progress import NO_PROGRESS, ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.retry import Retry
from binlogsync.consume.start_position import Start, check_start, resolve_bookmark
from binlogsync.errors import BinlogSyncError, ConfigError
from binlogsync.models.model import table_name
from binlogsync.nats.client import NatsConnection, NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.signals import stop_on_signals
from binlogsync.stores import PositionStore

log = logging.getLogger(__name__)
M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., object])
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class TableStatus:
    """Status of one table.

    Attributes:
        changes: number of changes handled since the program started.
        lag_s: seconds between the commit of the last change at the source and its handling; None before the first.
        error: the error that blocks the table; None if it is not blocked.
    """

    changes: int = 0
    lag_s: float | None = None
    error: BinlogSyncError | None = None


@dataclass(frozen=True, slots=True)
class _Registered:
    """A handler and its table as given: "database.table", or a table name whose database is found in the stream."""

    table: str
    handler: Handler[Any]


class Consumer:
    """Passes the changes of tables to handlers, in order, resuming after the last change that this client handled.

    Args:
        client_id: identifies the client's progress. Use one id for each program; each id gets every change.
        url: NATS address, or the addresses of one cluster separated by commas; for credentials and TLS use `nats`.
        source: name of the source, as in its tail.
        start: where a client without progress for a table starts: "all" that the stream holds, "new", the name or key
            of a bookmark, a GTID set, "binlog.000042:1187", an ISO time; or a stream sequence, an aware datetime, a
            Bookmark.
        positions: the position store in which `start` finds a bookmark; by default the one configured by BINLOGSYNC_...
            variables or a .env file here, as for the command line, else the bucket in this NATS.
        progress: a DuckDB file that stores progress; None stores it in NATS.
        retry: how often a handler is called for a failing change before the table is paused, for up to a minute; the
            handler is then called again.
        max_workers: largest number of threads, each of which runs one handler at a time. They are started when handlers
            wait for one; no table waits for a blocked one.
        nats: connection options; takes precedence over `url`.

    Raises ConfigError for an invalid argument.
    """

    def __init__(
        self,
        client_id: str,
        *,
        url: str = "nats://127.0.0.1:4222",
        source: str = "main",
        start: Start = "all",
        positions: PositionStore | None = None,
        progress: str | Path | None = None,
        retry: Retry | None = None,
        max_workers: int = 32,
        nats: NatsOptions | None = None,
    ) -> None:
        self._nats = nats or NatsOptions(url=url)
        self._source = check_source(source)
        self._options = ConsumeOptions(
            client_id=client_id, start=check_start(start), bookmarks=self._bookmarks, gather_s=0.05
        )
        self._positions = positions
        self._retry = retry
        self._pool_options = ContinuousOptions(first_wait_s=1.0, max_workers=max_workers)
        self._connection = NatsConnection(self._nats, f"binlogsync client {client_id}")
        self._progress = Path(progress) if progress is not None else None
        self._registered: list[_Registered] = []
        self._status: dict[tuple[str, str], TableStatus] = {}
        self._stop = threading.Event()
        self._await: RunCoroutine = run_in_shared_loop

    @overload
    def register(self, model: type[M], handler: HandlerFunction[M], *, table: str | None = ...) -> None: ...
    @overload
    def register(self, model: None, handler: Callable[..., object], *, table: str) -> None: ...
    @overload
    def register(self, model: type[M], *, table: str | None = ...) -> Callable[[F], F]: ...

    def register(
        self, model: type | None, handler: Callable[..., object] | None = None, *, table: str | None = None
    ) -> Callable[[F], F] | None:
        """Register a handler for the changes of a table, before `run`. Without `handler`, this is a decorator.

        Args:
            model: a dataclass, msgspec.Struct or pydantic model. None for a handler of frames or record batches with
                all columns. handler: its signature decides what it gets, see binlogsync/consume/handler_signature.py.
                table: "database.table"; by default what the model names, or the table of its name that the stream has.

        Raises ConfigError for an unsupported signature, ModelError for a class that is not a model.
        """
        if handler is None:

            def decorate(function: F) -> F:
                self._add(model, function, table)
                return function

            return decorate
        self._add(model, handler, table)
        return None

    def run(self, *, idle_s: float | None = None) -> None:
        """Handle changes until `stop`, Ctrl-C or SIGTERM; changes being handled are finished and stored first.

        With `idle_s`, run until no change has arrived for so many seconds, then raise the error of a blocked table.
        Raises ClientTakenError when another live client has this id, SinkError when NATS cannot be reached, WireError
        when the source has no stream yet, ConfigError with the existing names when `start` names an unknown bookmark.
        """
        with stop_on_signals(self._stop):
            self._run(run_in_shared_loop, idle_s)

    async def run_async(self, *, idle_s: float | None = None) -> None:
        """Like `run`, for use in an event loop: `async def` handlers run in that loop. Cancellation stops cleanly.

        Other handlers run in the threads of their tables.
        """
        await run_in_thread(lambda awaits: self._run(awaits, idle_s), self.stop)

    def stop(self) -> None:
        """Stop `run` cleanly; may be called from any thread and from a handler."""
        self._stop.set()

    def status(self) -> Mapping[str, TableStatus]:
        """The status of each table by "database.table"; may be called from any thread."""
        return {".".join(table): status for table, status in self._status.copy().items()}

    def _add(self, model: type | None, fn: Callable[..., object], table: str | None) -> None:
        name = table or (table_name(model) if model is not None else None)
        if name is None:
            raise ConfigError('without a model, give the table: table="database.table"')
        if any(item.table == name for item in self._registered):
            raise ConfigError(f"{name} already has a handler; register a second one under another client id")
        store = self._progress or NatsProgress(self._connection, self._source)
        handler: Handler[Any] = Handler(model, fn, store, self._retry, self._run_coroutine)
        self._registered.append(_Registered(name, handler))

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, object]) -> object:
        return self._await(coroutine)

    def _run(self, awaits: RunCoroutine, idle_s: float | None) -> None:
        if not self._registered:
            raise ConfigError("no handler is registered; call register(Model, handler) before run()")
        self._await = awaits
        try:
            with ExitStack() as stack:
                stack.enter_context(self._connection)
                tasks = self._load_tasks()
                lease = stack.enter_context(ClientLease(self._connection, self._source, self._options.client_id))
                pool = stack.enter_context(ContinuousPool(tasks, self._reader, self._pool_options, self._stop))
                self._watch(pool, lease, idle_s)
        finally:
            self._stop.clear()

    def _watch(self, pool: ContinuousPool, lease: ClientLease, idle_s: float | None) -> None:
        while not self._stop.is_set() and not lease.is_lost:
            self._record_reports(pool.reports(_POLL_S))
            if idle_s is not None and pool.quiet_s() > idle_s:
                break
        pool.end()
        self._record_reports(pool.reports(0))
        lease.check()
        if idle_s is not None:
            for status in self._status.values():
                if status.error is not None:
                    raise status.error

    def _record_reports(self, reports: Iterable[TableReport]) -> None:
        for report in reports:
            known = self._status[report.table]
            if report.done is None:
                self._status[report.table] = replace(known, error=report.error)
            else:
                lag_s = known.lag_s if report.done.lag_s is None else report.done.lag_s
                self._status[report.table] = TableStatus(known.changes + report.done.changes, lag_s)

    def _reader(self) -> StreamReader:
        return StreamReader(self._nats, self._source)

    def _load_tasks(self) -> list[ConsumerTask]:
        """A task for each registered table; raises ConfigError for a table name that is not unique in the stream."""
        with self._reader() as reader:
            held = sorted(reader.tables())
        tasks = [
            ConsumerTask(_qualified_name(item.table, held), item.handler, self._options) for item in self._registered
        ]
        if any(self._is_new_client(task) for task in tasks):
            start = resolve_bookmark(self._options.start, self._source, self._bookmarks)
            tasks = [replace(task, options=replace(self._options, start=start)) for task in tasks]
        self._status = {task.table: self._status.get(task.table, TableStatus()) for task in tasks}
        return tasks

    def _is_new_client(self, task: ConsumerTask) -> bool:
        key = ProgressKey(self._options.client_id, self._source, *task.table)
        return task.target.store.load(key) == NO_PROGRESS

    def _bookmarks(self) -> Sequence[Bookmark]:
        if self._positions is not None:
            return self._positions.bookmarks.load(self._source)
        with closing(_default_positions(self._nats)) as store:
            return store.bookmarks.load(self._source)


def _default_positions(nats: NatsOptions) -> PositionStore:
    """The configured position store, else the bucket in NATS."""
    # Imported here because the stores import their client libraries, which only a start by name needs.
    from binlogsync.settings import Settings
    from binlogsync.stores.nats import NatsPositionStore

    settings = Settings.read()
    return settings.positions() if settings.has_position_store() else NatsPositionStore(nats)


def _qualified_name(name: str, held: list[tuple[str, str]]) -> tuple[str, str]:
    """(database, table) of "database.table", or of a table name that the stream has in exactly one database."""
    if "." in name:
        return parse_table(name)
    found = [names for names in held if names[1] == name]
    if len(found) != 1:
        databases = ", ".join(f"{database}.{table}" for database, table in found)
        problem = f"is in several databases of the stream: {databases}" if found else "is not in the stream yet"
        raise ConfigError(f'table {name!r} {problem}; name its database: register(..., table="database.{name}")')
    return found[0]
