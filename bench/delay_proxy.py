"""A TCP proxy that delays all data, as a distant network does, in a separate process.

    python -m bench.delay_proxy PORT MILLISECONDS

Forwards to that port of this machine, with that round trip; prints its own port.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_HOST = "127.0.0.1"
_READ_BYTES = 1 << 18


@contextmanager
def delayed(port: int, round_trip_ms: float) -> Iterator[int]:
    """Runs a proxy to the port while the block runs; yields the port of the proxy."""
    command = [sys.executable, "-m", "bench.delay_proxy", str(port), str(round_trip_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _serve(port: int, round_trip_ms: float) -> None:
    delay_s = round_trip_ms / 2000

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(_HOST, port, limit=4 * _READ_BYTES)
        await asyncio.gather(_copy(reader, to_server[1], delay_s), _copy(to_server[0], writer, delay_s))

    server = await asyncio.start_server(forward, _HOST, 0, limit=4 * _READ_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Write everything after the delay, however much is on its way."""
    loop, waiting = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

    async def write() -> None:
        with suppress(OSError):
            while data := await _due(waiting):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _due(waiting: asyncio.Queue[tuple[float, bytes]]) -> bytes:
        at, data = await waiting.get()
        await asyncio.sleep(max(0.0, at - loop.time()))
        return data

    writing = asyncio.create_task(write())
    with suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            waiting.put_nowait((loop.time() + delay_s, data))
    waiting.put_nowait((loop.time() + delay_s, b""))
    await writing


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
