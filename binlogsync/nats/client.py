"""Blocking calls to NATS: one event loop in one thread for each connection.

A lost connection is not reestablished automatically: the call fails with `ConnectionLostError`, and the caller, who
knows what may be sent twice, calls `reconnect`. Errors name the server and never contain credentials.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.protocol.parser import PERMISSIONS_ERR

from binlogsync.errors import ConfigError, SinkError
from binlogsync.nats.adapter import SecureClient, close_quietly
from binlogsync.nats.handshake import HANDSHAKE_ERRORS, explain
from binlogsync.waiting import RetryTimer

log = logging.getLogger(__name__)
Result = TypeVar("Result")
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 1.0
_POLL_S = 0.5
_OLDEST_SERVER = (2, 12)
_SCHEMES = ("nats", "tls", "ws", "wss")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsOptions:
    """Connection options for NATS.

    Attributes:
        url: one address, or several of one cluster separated by commas.
        user, password: for password authentication.
        token: for token authentication.
        credentials_file: path of a .creds file (JWT and seed).
        nkey_seed_file: path of a file with an NKey seed (SU...), for servers that know the user's public NKey.
        tls_ca_file: certificate authority of the server; None trusts those of the system. Any TLS file turns TLS on, as
            a tls:// address does.
        tls_cert_file, tls_key_file: the client's own certificate.
        connect_timeout_s: for one attempt to connect.
        request_timeout_s: for one answer of the server.
        reconnect_timeout_s: how long reconnecting is tried before a call fails.
    """

    url: str = "nats://127.0.0.1:4222"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: str | None = None
    nkey_seed_file: str | None = None
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    connect_timeout_s: float = 5.0
    request_timeout_s: float = 10.0
    reconnect_timeout_s: float = 60.0

    @property
    def servers(self) -> list[str]:
        """The addresses, each with its scheme in lower case."""
        parts = (url.strip().partition("://") for url in self.url.split(",") if url.strip())
        return [f"{scheme.lower()}://{rest}" if mark else scheme for scheme, mark, rest in parts]

    @property
    def requires_tls(self) -> bool:
        """True when nothing may be sent in plain text."""
        files = self.tls_ca_file or self.tls_cert_file or self.tls_key_file
        return bool(files) or any(urlsplit(url).scheme in ("tls", "wss") for url in self.servers)

    @property
    def address(self) -> str:
        """The addresses for logs and errors: without user and password."""
        return ", ".join(
            urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl() for url in self.servers
        )


class DeniedError(SinkError):
    """The user has no permission to publish to a required subject, or to subscribe to it."""


class ConnectionLostError(SinkError):
    """The connection broke, or a reply did not arrive in time: whether the request was executed is unknown."""


class NatsConnection:
    """One connection. Any thread may call it; those that find it lost reconnect it once."""

    def __init__(self, options: NatsOptions, name: str) -> None:
        self.options = options
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None
        self._closed: asyncio.Event | None = None
        self._last_error = ""
        self._denied = ""
        self._reconnecting = threading.Lock()
        self._started: set[asyncio.Task[None]] = set()
        self._poll: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Start the thread and connect; raises SinkError with the cause."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=f"nats {self._name}", daemon=True)
            self._thread.start()
        try:
            self._on_loop(self._connect(), self.options.connect_timeout_s + 5)
        except BaseException:
            self.close()
            raise

    @property
    def max_payload(self) -> int:
        """The largest message that the server accepts, including headers."""
        return int(self._client.max_payload) if self._client else 0

    @property
    def is_lost(self) -> bool:
        """True when the connection broke or was never established."""
        return self._client is None or bool(self._client.is_closed)

    def has(self, client: Client | None) -> bool:
        """True if that is the client of this connection now, and not one that it has replaced since."""
        return client is None or client is self._client

    def call(self, work: Callable[[Client], Awaitable[Result]], timeout_s: float | None = None) -> Result:
        """Run `work` in the event loop and return its result.

        Raises ConnectionLostError when the connection breaks or the reply takes longer than `timeout_s` (default: the
        request timeout). Errors of the JetStream API are raised as nats.js.errors.APIError.
        """
        limit = self.options.request_timeout_s if timeout_s is None else timeout_s
        result: Result = self._on_loop(self._guard(work, limit), limit + 5)
        return result

    def start(
        self, work: Callable[[Client], Coroutine[Any, Any, None]], done: Callable[[Exception | None], None]
    ) -> None:
        """Run `work` in the event loop, without waiting and without a time limit. At the end `done` is called in the
        event loop: with None, the error of `work`, or ConnectionLostError.
        """
        loop = self._loop
        if loop is None:
            done(self._lost("is closed"))
        else:
            loop.call_soon_threadsafe(self._start, loop, work, done)

    def retry(self, work: Callable[[Client], Awaitable[Result]], timeout_s: float | None = None) -> Result:
        """Like `call`, repeated after a reconnect when the connection is lost: for work that may be executed twice."""
        timer = self.retry_timer()
        while True:
            client = self._client
            try:
                if self.is_lost:
                    self._reconnect_once(client, timer)
                client = self._client
                return self.call(work, timeout_s)
            except ConnectionLostError:
                if timer.is_over:
                    raise
                self._reconnect_once(client, timer)

    def _reconnect_once(self, lost: Client | None, timer: RetryTimer) -> None:
        """Reconnect, unless another thread has replaced the lost client meanwhile."""
        with self._reconnecting:
            if self.is_lost or self._client is lost:
                self.reconnect(timer)

    def retry_timer(self) -> RetryTimer:
        """A timer for the retries of one call."""
        return RetryTimer(self.options.reconnect_timeout_s, _FIRST_BACKOFF_S, _LONGEST_BACKOFF_S)

    def reconnect(self, timer: RetryTimer) -> None:
        """Reconnect, with retries until the time limit; raises SinkError after it."""
        log.warning("connection to NATS at %s lost%s; reconnecting", self.options.address, self._reason())
        while True:
            try:
                self._on_loop(self._connect(), self.options.connect_timeout_s + 5)
                return
            except SinkError:
                if timer.is_over or self._loop is None:
                    raise
            timer.pause()

    def close(self) -> None:
        """Close the connection and end the thread; never raises."""
        loop, self._loop = self._loop, None
        if loop is None or self._thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(5)
        except (OSError, TimeoutError, concurrent.futures.CancelledError, nats.errors.Error) as error:
            log.debug("closing the connection to NATS at %s: %r", self.options.address, error)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            loop.close()

    def __enter__(self) -> NatsConnection:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_loop(self, coroutine: Any, limit_s: float) -> Any:
        if self._loop is None:
            coroutine.close()
            raise SinkError("the connection to NATS is closed; open it first")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(limit_s)
        except concurrent.futures.TimeoutError as error:
            raise self._lost("did not answer in time") from error
        except concurrent.futures.CancelledError as error:
            raise self._lost("did not answer before the connection was closed") from error
        finally:
            future.cancel()

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Callable[[Client], Coroutine[Any, Any, None]],
        done: Callable[[Exception | None], None],
    ) -> None:
        if self._client is None or self._client.is_closed:
            done(self._lost("is not connected"))
            return
        task = loop.create_task(work(self._client))
        self._started.add(task)
        task.add_done_callback(lambda task: self._ended(task, done))
        if self._poll is None:
            self._poll = loop.call_later(_POLL_S, self._cancel_if_lost, loop)

    def _ended(self, task: asyncio.Task[None], done: Callable[[Exception | None], None]) -> None:
        self._started.discard(task)
        error = self._lost("broke the connection") if task.cancelled() else task.exception()
        done(None if error is None else self.sink_error(error))

    def sink_error(self, error: BaseException) -> Exception:
        """An error of work over this connection, as `start` passes it on."""
        if isinstance(error, nats.js.errors.APIError | SinkError):
            return error
        return self._lost(f"failed: {error!r}")

    def _cancel_if_lost(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called repeatedly while work is running that `start` has started."""
        if self.is_lost:
            for task in self._started:
                task.cancel()
        self._poll = loop.call_later(_POLL_S, self._cancel_if_lost, loop) if self._started else None

    async def _guard(self, work: Callable[[Client], Awaitable[Result]], limit_s: float) -> Result:
        """Run the work; cancel it when the connection breaks."""
        if self._client is None or self._closed is None or self._client.is_closed:
            raise self._lost("is not connected")
        self._denied = ""
        task = asyncio.ensure_future(work(self._client))
        await asyncio.sleep(0)
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()  # nothing to wait for: received messages, for example
        closed = asyncio.ensure_future(self._closed.wait())
        until, left = time.monotonic() + limit_s, limit_s
        try:
            while not (task.done() or closed.done() or self._client is None or self._client.is_closed or self._denied):
                if (left := until - time.monotonic()) <= 0:
                    break
                # nats-py does not always report that it closed: not when reading and writing fail at the same time.
                await asyncio.wait({task, closed}, timeout=min(left, _POLL_S), return_when=asyncio.FIRST_COMPLETED)
            if self._denied:
                raise self._refused()
            if task.done():
                return await task
            raise self._lost(f"did not answer within {limit_s:g} s" if left <= 0 else "broke the connection")
        except (nats.js.errors.APIError, SinkError):
            raise
        except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError, asyncio.CancelledError) as error:
            raise self._lost(f"failed: {error!r}") from error
        finally:
            await _cancel(task, closed)

    async def _connect(self) -> None:
        await self._disconnect()
        client, closed = SecureClient(self.options.requires_tls), asyncio.Event()
        self._last_error = ""
        failure: list[Exception] = []

        async def on_error(error: Exception) -> None:
            self._last_error = str(error) or repr(error)
            failure[:] = [error]
            if PERMISSIONS_ERR in self._last_error:
                self._denied = self._last_error
            log.debug("NATS: %s", self._last_error)

        async def on_closed() -> None:
            closed.set()

        options = {**self._credentials(), "error_cb": on_error, "closed_cb": on_closed, "name": self._name}
        try:
            async with asyncio.timeout(self.options.connect_timeout_s):
                await client.connect(self.options.servers, allow_reconnect=False, max_reconnect_attempts=1, **options)
            version = client.connected_server_version
            is_too_old = (version.major, version.minor) < _OLDEST_SERVER
        except HANDSHAKE_ERRORS as error:
            await close_quietly(client)
            cause = failure[0] if failure and isinstance(error, nats.errors.NoServersError | TimeoutError) else error
            raise SinkError(f"NATS at {self.options.address} {explain(cause)}") from error
        if is_too_old:
            await close_quietly(client)
            raise SinkError(
                f"NATS at {self.options.address} is version {version.major}.{version.minor}.{version.patch}; "
                f"binlogsync requires nats-server 2.12 or newer (atomic batches): upgrade it"
            )
        self._client, self._closed = client, closed

    async def _end(self) -> None:
        """Disconnect, and cancel the calls of other threads."""
        await self._disconnect()
        await _cancel(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_quietly(client)

    def _credentials(self) -> dict[str, Any]:
        options = self.options
        if not options.servers:
            raise ConfigError("the NATS address is empty; write it as nats://host:4222")
        if wrong := [url for url in options.servers if "://" in url and urlsplit(url).scheme not in _SCHEMES]:
            raise ConfigError(
                f"the NATS address starts with {urlsplit(wrong[0]).scheme}://; write it as nats://host:4222, or as "
                f"tls://host:4222 to require TLS"
            )
        for name in ("credentials_file", "nkey_seed_file"):
            if (path := getattr(options, name)) is not None:
                _check_readable(name, path)
        found: dict[str, Any] = {
            "user": options.user,
            "password": options.password,
            "token": options.token,
            "user_credentials": options.credentials_file,
            "nkeys_seed": options.nkey_seed_file,
            "connect_timeout": max(1, int(options.connect_timeout_s)),
        }
        if options.requires_tls:
            try:
                context = ssl.create_default_context(cafile=options.tls_ca_file)
                if options.tls_cert_file:
                    context.load_cert_chain(options.tls_cert_file, options.tls_key_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"a TLS file for NATS cannot be read: {error}; see tls_ca_file, tls_cert_file, tls_key_file"
                ) from error
            found["tls"] = context
        return {name: value for name, value in found.items() if value is not None}

    def _refused(self) -> DeniedError:
        what = self._denied.removeprefix("nats: ")
        return DeniedError(
            f"NATS at {self.options.address} denied a required permission: {what} (in lower case); grant it to this "
            "user: docs/nats.md lists all permissions"
        )

    def _reason(self) -> str:
        return f" ({self._last_error})" if self._last_error else ""

    def _lost(self, what: str) -> ConnectionLostError:
        return ConnectionLostError(
            f"NATS at {self.options.address} {what}{self._reason()}; check the server and its log"
        )


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(
            f"{name} {path} of NATS cannot be read: {error.strerror}; see BINLOGSYNC_NATS_{name.upper()}"
        ) from error
