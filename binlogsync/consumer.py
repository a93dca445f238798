"""A consumer in any Python program: models, handlers, and a stream. No Dagster, no files, only NATS.

    consumer = Consumer("client1", url="nats://127.0.0.1:4222", source="main")

    @consumer.register(Hole, table="treehole.holes")
    def on_hole(change: Change[Hole]) -> None:
        print(change.op, change.before, "->", change.after)

    consumer.run()                     # until stop(), Ctrl-C or SIGTERM; or: await consumer.run_async()

Every client id gets every change, each table in order, up to `max_workers` tables at a time, each in a thread of its
own. What was handled is kept in NATS, behind the handler: at least once, and `change.id` tells a change that comes
again after a kill. With `progress="file.duckdb"` it is kept in that DuckDB file instead, and a handler with a second
parameter gets its connection: what it writes there happens exactly once. A handler that raises is called again, with
growing pauses, until it does not; nothing later of its table is handled meanwhile, and other tables go on. Two live
clients of one id are refused.
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
from binlogsync.consume.client_lease import ClientLease
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.event_loop import RunCoroutine, run_in_shared_loop, run_in_thread
from binlogsync.consume.handler import Handler, Retry
from binlogsync.consume.handler_signature import HandlerFunction
from binlogsync.consume.progress import NO_PROGRESS, ProgressKey
from binlogsync.consume.progress_nats import NatsProgress
from binlogsync.consume.start_position import Start, check_start, resolve_bookmark
from binlogsync.consume.worker_pool import ConsumerTask, TableReport, WorkerPool, WorkerPoolOptions
from binlogsync.errors import BinlogSyncError, ClientTakenError, ConfigError
from binlogsync.models.model import table_name
from binlogsync.signals import stop_on_signals
from binlogsync.stores import PositionStore
from binlogsync.stream.client import NatsConnection, NatsOptions
from binlogsync.stream.reader import StreamReader
from binlogsync.wire.subjects import check_source, parse_table

log = logging.getLogger(__name__)
M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., object])
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class TableStatus:
    """How far one table is.

    Attributes:
        changes: handled since the program began.
        lag_s: seconds from the commit at the source to when the last was handled; None before the first.
        error: what holds the table up; None while all is well.
    """

    changes: int = 0
    lag_s: float | None = None
    error: BinlogSyncError | None = None


@dataclass(frozen=True, slots=True)
class _Registered:
    """A handler, and the table as it was given: "database.table", or a table that the stream tells the database of."""

    table: str
    handler: Handler[Any]


class Consumer:
    """Hands the changes of tables to handlers, in order, from where this client was.

    Args:
        client_id: whose progress. Give each program its own; each gets every change.
        url: of NATS, one address or several of one cluster; `nats` has more to set (credentials, TLS).
        source: name of the source, as its tail has it.
        start: where a client that is new to a table begins: "all" that the stream holds, "new", a bookmark by its name
            or key, a GTID set, "binlog.000042:1187", an ISO time; or a stream sequence, an aware datetime, a Bookmark.
        positions: the position store, for a start that names a bookmark; by default the one that the BINLOGSYNC_...
            variables or a .env here tell, as for the command line, else the bucket in this NATS.
        progress: a DuckDB file to keep progress in; None keeps it in NATS.
        retry: how often a handler is called for a change at a stretch; after that the table is paused for up to a
            minute, and then it is called again.
        max_workers: tables handled at the same time, each with a thread and a connection of its own; more of them take
            turns, in which none waits for a table that is held up.
        nats: how to reach NATS; wins over `url`.

    Raises ConfigError for what cannot be right.
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
        self._crew = WorkerPoolOptions(first_wait_s=1.0, max_workers=max_workers)
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
        """Have `handler` called for the changes of a table; without it, this is a decorator. Before `run`.

        Args:
            model: a dataclass, msgspec.Struct or pydantic model. None for a handler of frames or record batches with
                all columns. handler: its signature decides what it gets, see binlogsync/consume/handler_signature.py.
                table: "database.table"; by default what the model names, or the table of its name that the stream has.

        Raises ConfigError for a signature that cannot be served, ModelError for a class that is no model.
        """
        if handler is None:

            def decorate(function: F) -> F:
                self._add(model, function, table)
                return function

            return decorate
        self._add(model, handler, table)
        return None

    def run(self, *, idle_s: float | None = None) -> None:
        """Handle changes until `stop`, Ctrl-C or SIGTERM; what is being handled is finished and stored first.

        With `idle_s` until nothing has come for so many seconds; then what holds a table up is raised. Raises
        ClientTakenError when another live client has this id, SinkError when NATS cannot be reached, WireError when
        the source has no stream yet, ConfigError that tells the known names when `start` names no bookmark.
        """
        with stop_on_signals(self._stop):
            self._run(run_in_shared_loop, idle_s)

    async def run_async(self, *, idle_s: float | None = None) -> None:
        """The same beside an event loop, in which handlers that are `async def` run; cancelling it stops in good order.

        Other handlers run in the threads of their tables.
        """
        await run_in_thread(lambda awaits: self._run(awaits, idle_s), self.stop)

    def stop(self) -> None:
        """End `run` in good order, from any thread or a handler."""
        self._stop.set()

    def status(self) -> Mapping[str, TableStatus]:
        """How far each table is, by "database.table"; from any thread."""
        return {".".join(table): status for table, status in self._status.copy().items()}

    def _add(self, model: type | None, fn: Callable[..., object], table: str | None) -> None:
        name = table or (table_name(model) if model is not None else None)
        if name is None:
            raise ConfigError('without a model the table has to be given: table="database.table"')
        if any(item.table == name for item in self._registered):
            raise ConfigError(f"{name} has a handler already; another client id may have one more")
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
                works = self._works()
                lease = stack.enter_context(ClientLease(self._connection, self._source, self._options.client_id))
                crew = stack.enter_context(WorkerPool(works, self._reader, self._crew, self._stop))
                self._watch(crew, lease, idle_s)
        finally:
            self._stop.clear()

    def _watch(self, crew: WorkerPool, lease: ClientLease, idle_s: float | None) -> None:
        while not self._stop.is_set() and not lease.lost.is_set():
            self._note(crew.reports(_LOOK_S))
            if idle_s is not None and crew.quiet_s() > idle_s:
                break
        crew.end()
        self._note(crew.reports(0))
        if lease.lost.is_set():
            raise ClientTakenError(f"client id {self._options.client_id!r} was taken over by another client; stopped")
        if idle_s is not None:
            for status in self._status.values():
                if status.error is not None:
                    raise status.error

    def _note(self, reports: Iterable[TableReport]) -> None:
        for report in reports:
            known = self._status[report.table]
            if report.done is None:
                self._status[report.table] = replace(known, error=report.error)
            else:
                lag_s = known.lag_s if report.done.lag_s is None else report.done.lag_s
                self._status[report.table] = TableStatus(known.changes + report.done.changes, lag_s)

    def _reader(self) -> StreamReader:
        return StreamReader(self._nats, self._source)

    def _works(self) -> list[ConsumerTask]:
        """The tables by their whole names; raises ConfigError for one that the stream does not tell."""
        with self._reader() as reader:
            held = sorted(reader.tables())
        works = [ConsumerTask(_whole_name(item.table, held), item.handler, self._options) for item in self._registered]
        if any(self._is_new(work) for work in works):
            start = resolve_bookmark(self._options.start, self._source, self._bookmarks)
            works = [replace(work, options=replace(self._options, start=start)) for work in works]
        self._status = {work.table: self._status.get(work.table, TableStatus()) for work in works}
        return works

    def _is_new(self, work: ConsumerTask) -> bool:
        key = ProgressKey(self._options.client_id, self._source, *work.table)
        return work.target.store.load(key) == NO_PROGRESS

    def _bookmarks(self) -> Sequence[Bookmark]:
        if self._positions is not None:
            return self._positions.bookmarks(self._source)
        with closing(_default_positions(self._nats)) as store:
            return store.bookmarks(self._source)


def _default_positions(nats: NatsOptions) -> PositionStore:
    """The store of this deployment, where one is described here, else the bucket in NATS."""
    # The stores bring their clients with them; a program whose start is no name does without.
    from binlogsync.settings import Settings
    from binlogsync.stores.nats import NatsPositionStore

    settings = Settings.read()
    return settings.positions() if settings.names_positions() else NatsPositionStore(nats)


def _whole_name(name: str, held: list[tuple[str, str]]) -> tuple[str, str]:
    """(database, table) of "database.table", or of a table that is in the stream under one database."""
    if "." in name:
        return parse_table(name)
    found = [names for names in held if names[1] == name]
    if len(found) != 1:
        there = "in several databases: " + ", ".join(f"{d}.{t}" for d, t in found) if found else "in none so far"
        raise ConfigError(f'the stream has a table {name!r} {there}; say which: register(..., table="database.{name}")')
    return found[0]
