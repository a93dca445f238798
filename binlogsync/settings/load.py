"""Reads the layers into the model: names checked, values merged and validated, and where each came from."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from binlogsync.errors import ConfigError
from binlogsync.settings.catalog import PREFIX, Path, Setting, list_settings
from binlogsync.settings.layers import (
    TOML,
    Assignment,
    Layer,
    first_value,
    is_ours,
    read_dotenv,
    read_environment,
    read_toml,
)
from binlogsync.settings.model import SettingsModel, source_key, split_names

PRIVATE_SERVERS = frozenset({"BINLOGSYNC_CACHE", "BINLOGSYNC_EMBEDDED"})
"""Variables of the private servers of demo and tests; they name no server of the user's."""
_TESTS = ("BINLOGSYNC_TEST_", "BINLOGSYNC_RANDOM_")
"""Variables of the tests begin with these; no deployment has them."""
_NEXT_ADDRESS = re.compile(r",(?=\s*\w+://)")
HIDDEN = "(hidden)"

Origins = Mapping[Path, Assignment]
"""Where each value came from; a default has none."""


def load(folder: FilePath, environment: Mapping[str, str]) -> tuple[SettingsModel, Origins]:
    """The settings of a folder and an environment. Raises ConfigError that lists all problems with names, or all
    problems with values."""
    variables = [read_environment(environment), read_dotenv(folder / ".env", environment)]
    # Names of tables depend on the sources, and those may be in the file.
    toml = folder / "binlogsync.toml"
    sources = _source_names(first_value([*variables, read_toml(toml, frozenset())], (f"{PREFIX}SOURCE", "source")))
    settings = list(list_settings(sources))
    tables = frozenset(".".join(each.path[:end]) for each in settings for end in range(1, len(each.path)))
    document = read_toml(toml, tables)
    _check_names([*variables, document], settings, tables, sources[0] if sources else "")
    layers = [
        *({setting.path: layer.assignments.get(setting.variable) for setting in settings} for layer in variables),
        {setting.path: document.assignments.get(setting.key) for setting in settings},
    ]
    origins: dict[Path, Assignment] = {}
    for layer in reversed(layers):
        origins |= {path: found for path, found in layer.items() if found is not None and found.value != ""}
    try:
        nested = [_nest(layer, settings) for layer in layers]
        values = SettingsModel.from_layers([*nested, {"sources": {name: {} for name in sources[1:]}}])
    except ValidationError as error:
        raise ConfigError(_explain(error, settings, origins)) from None
    return values, origins


def shown(setting: Setting, value: Any) -> str:
    """A value of the model, or one as it was written, as text: secrets are hidden, also those in an address."""
    if value is None:
        return ""
    if setting.is_secret:
        return HIDDEN
    if isinstance(value, bool):
        return _yes_or_no(setting, value)
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.15g}"
    return ",".join(map(_hide_login, _NEXT_ADDRESS.split(value))) if setting.note.has_logins else str(value)


def _hide_login(address: str) -> str:
    scheme, mark, rest = address.partition("://") if "://" in address else ("", "", address)
    _, at, host = rest.rpartition("@")
    return f"{scheme}{mark}{HIDDEN}@{host}" if at else address


def _yes_or_no(setting: Setting, value: bool) -> str:
    words = setting.note.allowed.split(" or ") if setting.note.allowed else ["yes", "no"]
    return words[0] if value else words[1]


def _source_names(value: Any) -> tuple[str, ...]:
    """The names as far as they can be read; the model refuses wrong ones."""
    names = split_names(("main",) if value is None else value)
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, tuple | list) else ()


def _nest(layer: Mapping[Path, Assignment | None], settings: Sequence[Setting]) -> dict[str, Any]:
    """The values of one layer as nested sections; what is empty is not set."""
    nested: dict[str, Any] = {}
    for setting in settings:
        found = layer[setting.path]
        if found is None or found.value == "":
            continue
        *sections, name = setting.path
        section = nested
        for each in sections:
            section = section.setdefault(each, {})
        # pydantic would accept true as the number 1.
        is_wrong = isinstance(found.value, bool) and setting.type in (int, float)
        section[name] = str(found.value) if is_wrong else found.value
    return nested


def _check_names(layers: Sequence[Layer], settings: Sequence[Setting], tables: frozenset[str], first: str) -> None:
    """Raise ConfigError for names that are no settings, each with the most similar one; `first` is the first source."""
    own_prefix = f"{PREFIX}{source_key(first).upper()}_"
    variables = {setting.variable for setting in settings} | PRIVATE_SERVERS
    keys = {setting.key for setting in settings}
    too_late = {setting.key: setting.variable for setting in settings if setting.note.is_process_wide}
    problems: list[str] = []
    for layer in layers:
        for name, found in sorted(layer.assignments.items()):
            if found.layer == TOML and name in too_late:
                problems.append(f"{found.where}: {name} is read before this file; set {too_late[name]} instead")
            elif found.layer == TOML and name in tables:
                problems.append(f"{found.where}: {name} is a table; write [{name}]")
            elif name not in (keys if found.layer == TOML else variables) and not name.startswith(_TESTS):
                # The variables of the first source do not contain its name.
                meant = name.replace(own_prefix, PREFIX, 1)
                known = {meant} & variables or (keys | tables if found.layer == TOML else variables)
                problems.append(f"{found.where}: {name} is not a setting{_nearest(meant, known)}")
    if problems:
        raise ConfigError(
            f"{'; '.join(problems)}. Correct or remove it; `binlogsync config show` and docs/settings.md list all "
            "settings, and an additional source must be named in BINLOGSYNC_SOURCE"
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    """The most similar name, compared without the common prefix."""
    start = len(PREFIX) if is_ours(name) else 0
    candidates = {each[start:].lower(): each for each in known}
    found = difflib.get_close_matches(name[start:].lower(), candidates, n=1)
    return f" (did you mean {candidates[found[0]]}?)" if found else ""


def _explain(error: ValidationError, settings: Sequence[Setting], origins: Origins) -> str:
    """One line for each wrong value: its name, the value unless it is secret, where it was set, and what is allowed."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        location = tuple(map(str, problem["loc"]))
        setting = next(each for each in settings if each.path == location[: len(each.path)])
        found = origins[setting.path]
        cause = problem.get("ctx", {}).get("error")
        reason = str(cause) if isinstance(cause, ValueError) else f"allowed: {setting.allowed}"
        value = "" if setting.is_secret or setting.note.has_logins else f"={found.value!r}"
        lines.append(f"{found.name}{value} ({found.where}): {reason}")
    return "\n".join(lines)
