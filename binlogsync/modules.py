"""Finds the top-level objects of all modules of a package: consumers need not be registered in a list.

Modules are imported in the order of their names. If the import of a module does not finish in time, an error names the
file and the line that was running; otherwise loading the definitions would hang without a message.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from binlogsync.errors import ConfigError

IMPORT_S = 40.0
"""Time limit for importing a module; Dagster aborts a Reload after 60 s without naming the reason."""
_COLLECTIONS = (list, tuple, set, frozenset, dict)


def objects_of(package: ModuleType, import_s: float = IMPORT_S) -> Iterator[Any]:
    """Every top-level object of the package and its modules, also inside lists, tuples, sets and dicts; each once.

    Raises ConfigError for a module that does not finish within `import_s`, and any exception that a module raises.
    """
    seen: dict[int, object] = {}
    for module in [package, *_submodules(package, import_s)]:
        for name, value in list(vars(module).items()):
            if not name.startswith("__"):
                yield from _flatten(value, seen)


def import_within(name: str, import_s: float = IMPORT_S) -> ModuleType:
    """The module; raises ConfigError if the import does not finish in time, and any exception that it raises."""
    with _time_limit(name, import_s):
        return importlib.import_module(name)


def code_version() -> str:
    """A hash of the loaded code: of every module except installed packages."""
    places = [Path(sys.prefix), Path(sys.base_prefix)]
    installed = tuple(str(each) for place in places for each in (place, place.resolve()))
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file is None or not file.endswith(".py") or file.startswith(installed) or "site-packages" in file:
            continue
        with suppress(OSError):  # removed since it was loaded
            digest.update(name.encode() + b"\0" + Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _flatten(value: Any, seen: dict[int, object]) -> Iterator[object]:
    """The value itself; for a plain collection, its items, recursively. Yields no object twice."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if type(value) not in _COLLECTIONS:  # not isinstance: an object to find may be of a subclass of tuple
        yield value
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield from _flatten(item, seen)


def _submodules(package: ModuleType, import_s: float) -> Iterator[ModuleType]:
    for name in sorted(info.name for info in pkgutil.iter_modules(getattr(package, "__path__", ()))):
        module = import_within(f"{package.__name__}.{name}", import_s)
        yield module
        yield from _submodules(module, import_s)


@contextmanager
def _time_limit(name: str, import_s: float) -> Iterator[None]:
    """Raise ConfigError in the block after `import_s` seconds.

    There is no limit in another thread than the main one, which cannot be interrupted, and inside the block of an
    outer limit, because a process has one timer only.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def give_up(_number: int, frame: FrameType | None) -> None:
        raise ConfigError(
            f"the module {name} was not imported within {import_s:g} s: it is still at "
            f"{_running_line(frame, name)}. A module of consumers must not wait for servers "
            "when it is imported; move that into the handler"
        )

    previous_handler = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, import_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def _running_line(frame: FrameType | None, name: str) -> str:
    """File and line at which the module is; those of the innermost frame if none of the frames is of the module."""
    innermost = frame
    while frame is not None:
        if frame.f_globals.get("__name__") == name:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return f"{innermost.f_code.co_filename}:{innermost.f_lineno}" if innermost is not None else "an unknown line"
