"""`make demo` as a process: the check comes through, and whatever ends it leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.server, pytest.mark.slow]


@contextmanager
def demo(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A demo in `folder`; killed if the test leaves it running."""
    command = [sys.executable, "-m", "pipelines.demo", "--dir", str(folder), *arguments]
    pipe = subprocess.PIPE
    # A user's settings that lead elsewhere, and a name that is none.
    foreign = {"BINLOGSYNC_MYSQL_HOST": "production.invalid", "BINLOGSYNC_POSITIONS": "redis", "BINLOGSYNC_SORCE": "x"}
    environment = {**os.environ, **foreign}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For a demo's files; whatever still runs there at the end of the test is killed."""
    yield tmp_path / "demo"
    for number in processes_of(tmp_path / "demo"):
        os.kill(number, signal.SIGKILL)


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line or environment names the folder."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            said = (place / "cmdline").read_bytes() + (place / "environ").read_bytes() if place.name.isdigit() else b""
        except OSError:
            continue  # it has ended, or is another user's
        if str(folder).encode() in said:
            found.append(int(place.name))
    return found


def working_folder_of(number: int) -> Path | None:
    """Of a process of Dagster; None for another, or one that has ended."""
    try:
        is_dagster = b"dagster" in Path(f"/proc/{number}/cmdline").read_bytes()
        return Path(f"/proc/{number}/cwd").readlink() if is_dagster else None
    except OSError:
        return None


def test_a_row_comes_through_and_nothing_stays(folder: Path) -> None:
    with demo(folder, "--check", "--port", "0") as process:
        said, _ = process.communicate(timeout=400)
        assert process.returncode == 0, said
        assert "OK: tail STARTED after" in said
        assert "commit to mirror" in said
        for name in ("BINLOGSYNC_MYSQL_HOST", "BINLOGSYNC_POSITIONS", "BINLOGSYNC_SORCE"):
            assert name in said.split("ignored: ")[1].split("\n")[0]
        assert "demo: waiting for run" in said, "what its end waits for"
        assert "demo: killing" not in said
        assert processes_of(folder) == []
    assert "demo-check@example.com" not in said
    assert (folder / "warehouse.duckdb").exists()


def test_ctrl_c_ends_it_in_good_order(folder: Path) -> None:
    with demo(folder, "--port", "0") as process:
        address = ui_address(process)
        wait_until(lambda: answers(address), 120, f"the UI at {address}")
        places = {place for number in processes_of(folder) if (place := working_folder_of(number))}
        assert folder in places, "Dagster's"
        assert [place for place in places if (place / ".env").exists()] == [], "Dagster would read it"
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "stopped after" in said
        assert processes_of(folder) == []


def test_a_check_can_be_interrupted(folder: Path) -> None:
    with demo(folder, "--check", "--port", "0") as process:
        wait_until(lambda: (folder / "dagster.log").exists(), 120, "Dagster to be started")
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "stopped while waiting for the tail's run" in said
        assert time.monotonic() - begun < 60
        assert processes_of(folder) == []


def test_a_folder_holds_one_demo(folder: Path) -> None:
    with demo(folder, "--port", "0") as first:
        ui_address(first)
        with demo(folder, "--check", "--port", "0") as second:
            said, _ = second.communicate(timeout=120)
            assert second.returncode == 1, said
            assert "another demo runs in" in said
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 0, said


def ui_address(process: "subprocess.Popen[str]") -> str:
    """What it says to look at."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Dagster's UI comes up at "):
            return line.split()[5]
    raise AssertionError(f"the demo ended without an address: {''.join(said)}")


def answers(address: str) -> bool:
    """True once the UI is there."""
    try:
        with urlopen(f"{address}/server_info", timeout=2) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False
