"""Detects that the `dagster dev` or `dg dev` that started this run has ended.

SIGTERM to `dagster dev` ends its web server and daemon, but not its runs, which then continue unmonitored. A tail
stops in this case. In production, code servers are started separately and runs have no `dagster dev` among
their ancestors, so a restart of the daemon stops no tail.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Process = tuple[int, str]
"""Process id and start time, because ids are reused."""
GONE_S = 60.0


@dataclass(slots=True)
class DevProcesses:
    """The `dagster dev` process above this one, and its daemon. (The code server lives as long as the run.)"""

    watched: frozenset[Process]
    missing_since: float | None = None

    @classmethod
    def find(cls) -> "DevProcesses | None":
        """Find the processes. None if this process has no `dagster dev` above it, or /proc is not readable."""
        try:
            dev = next((pid for pid in _ancestors(os.getppid()) if _is_dagster_dev(pid)), None)
            if dev is None:
                return None
            daemons = [pid for pid in _children(dev) if "daemon" in " ".join(_words(pid))]
            return cls(frozenset((pid, _started(pid)) for pid in {dev, *daemons}))
        except (OSError, ValueError):
            return None

    def are_gone(self, now: float | None = None) -> bool:
        """True if none of the processes has been alive for a minute."""
        now = time.monotonic() if now is None else now
        if any(_is_alive(process) for process in self.watched):
            self.missing_since = None
            return False
        self.missing_since = now if self.missing_since is None else self.missing_since
        return now - self.missing_since >= GONE_S


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = _parent(pid)


def _children(pid: int) -> list[int]:
    found = []
    for each in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            if _parent(each) == pid:
                found.append(each)
        except OSError:
            continue  # it has ended meanwhile
    return found


def _is_dagster_dev(pid: int) -> bool:
    words = _words(pid)
    pairs = zip(words, words[1:], strict=False)
    return any(Path(word).name in ("dagster", "dg") and after == "dev" for word, after in pairs)


def _words(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the program name, which may contain any character."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int:
    return int(_fields(pid)[1])


def _started(pid: int) -> str:
    return _fields(pid)[19]


def _is_alive(process: Process) -> bool:
    """Whether the process runs. False for a zombie, too."""
    try:
        fields = _fields(process[0])
    except OSError:
        return False
    return fields[19] == process[1] and fields[0] != "Z"
