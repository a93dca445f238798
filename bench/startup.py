"""`python -m bench.startup`: measures how long imports, the command line's help and a tail's imports take, as ratios
to an interpreter that does nothing; the memory of a tail after its imports; and the time from the start of the process
of a tail to its first stored change, with its CPU time and its memory when idle.

The ratios are of the best times of one run, in which all are interleaved: a busy machine changes times, not ratios.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.js.errors

from binlogsync import servers
from binlogsync.codec import subjects

_ROOT = Path(__file__).parents[1]
_SOURCE = "startup"
_TIMES = 7
_TAILS = 5
_POLL_S = 0.1
_NOTHING = "nothing"
_TAIL = """
from binlogsync.cli import main as cli
cli._keep_pandas_out()
import binlogsync.cli.tail, binlogsync.settings
"""
_RSS = _TAIL + "print(open('/proc/self/status').read().partition('VmRSS:')[2].split()[0])"
_PROGRAMS = {
    _NOTHING: ["-c", "pass"],
    "import binlogsync": ["-c", "import binlogsync"],
    "binlogsync --help": ["-m", "binlogsync.cli", "--help"],
    "imports of binlogsync tail": ["-c", _TAIL],
    "import dagster": ["-c", "import dagster"],
    "import dagster_binlogsync": ["-c", "import dagster_binlogsync"],
}


def measure_startup() -> dict[str, float]:
    """The best time of each program, in seconds."""
    best = dict.fromkeys(_PROGRAMS, float("inf"))
    for _ in range(_TIMES):
        for name, arguments in _PROGRAMS.items():
            begun = time.perf_counter()
            _run(arguments)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def measure_tail_memory() -> float:
    """Resident memory in MB of a process that has imported all that a tail uses."""
    return int(_run(["-c", _RSS])) / 1024


@dataclass(frozen=True, slots=True)
class TailStartup:
    """One start of a tail: seconds and CPU seconds until a change of the backlog was stored, and memory in MB."""

    seconds: float
    cpu_s: float
    memory_mb: float


def measure_tail() -> TailStartup:
    """The best of several starts, each with one change to read and a stream that exists."""
    with tempfile.TemporaryDirectory() as folder, servers.mysql() as mysql, servers.nats() as nats_server:
        environment = os.environ | {
            "PYTHONPATH": str(_ROOT),
            "BINLOGSYNC_SOURCE": _SOURCE,
            "BINLOGSYNC_MYSQL_HOST": mysql.host,
            "BINLOGSYNC_MYSQL_PORT": str(mysql.port),
            "BINLOGSYNC_MYSQL_USER": mysql.user,
            "BINLOGSYNC_MYSQL_PASSWORD": mysql.password,
            "BINLOGSYNC_NATS_URL": nats_server.url,
            "BINLOGSYNC_FLUSH": "eager",
            "BINLOGSYNC_START": "oldest",
        }
        with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE startup")
            cursor.execute("CREATE TABLE startup.t (id INT AUTO_INCREMENT PRIMARY KEY)")
            found = []
            for _ in range(_TAILS + 1):
                cursor.execute("INSERT INTO startup.t VALUES ()")
                found.append(_start_tail(folder, environment, nats_server.url))
    return min(found[1:], key=lambda each: each.seconds)  # the first start creates the stream


def _start_tail(folder: str, environment: dict[str, str], url: str) -> TailStartup:
    """Start a tail, wait until it has stored a change, and end it."""
    before, begun = asyncio.run(_last_message(url))[0], time.time()
    command = [sys.executable, "-m", "binlogsync.cli", "tail"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
        while True:
            time.sleep(_POLL_S)
            if process.poll() is not None:
                assert process.stderr is not None
                raise SystemExit(process.stderr.read().decode())
            sequence, stored = asyncio.run(_last_message(url))
            if sequence > before:
                break
        usage = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu_s = sum(map(int, usage[11:13])) / os.sysconf("SC_CLK_TCK")
        memory = Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0]
        process.terminate()
    return TailStartup(stored - begun, cpu_s, int(memory) / 1024)


async def _last_message(url: str) -> tuple[int, float]:
    """Sequence and time, in seconds since 1970, of the last message of the table; zeros without one."""
    client = await nats.connect(url)
    subject = subjects.table_subject(_SOURCE, "startup", "t")
    try:
        message = await client.jetstream().get_last_msg(subjects.stream_name(_SOURCE), subject)
    except nats.js.errors.NotFoundError:
        return 0, 0.0
    finally:
        await client.close()
    assert message.seq is not None
    assert message.time is not None
    return message.seq, message.time.timestamp()


def _run(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT).stdout


def main() -> None:
    """Print the table."""
    best = measure_startup()
    for name, seconds in best.items():
        sys.stdout.write(f"  {name:30}{seconds:8.3f} s{seconds / best[_NOTHING]:8.2f} x\n")
    sys.stdout.write(f"  memory after the imports of a tail: {measure_tail_memory():.0f} MB\n")
    tail = measure_tail()
    text = "  a tail, from the start of its process to the first stored change"
    sys.stdout.write(f"{text}: {tail.seconds:.2f} s, {tail.cpu_s:.2f} s of CPU, {tail.memory_mb:.0f} MB\n")


if __name__ == "__main__":
    main()
