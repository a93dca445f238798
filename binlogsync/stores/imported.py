"""A position store of another package, which the settings name as `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import re

from binlogsync.errors import ConfigError
from binlogsync.stores import PositionStore

KINDS = ("sqlite", "redis", "nats")
"""The stores of this package."""
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_kind(kind: str) -> str:
    """The name of a store of this package, or a reference to a function; raises ValueError for anything else."""
    if kind not in KINDS and not _REFERENCE.fullmatch(kind):
        raise ValueError(f"use one of {', '.join(KINDS)}, or package.module:function for a store of your own")
    return kind


def open_imported(reference: str) -> PositionStore:
    """The store that the function `package.module:function` returns; it is called without arguments.

    Raises ConfigError if the function cannot be imported or returns something else, and what the function raises.
    """
    module, _, name = reference.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the position store {reference!r} cannot be imported ({error}): write package.module:function, and "
            "install the package in this environment"
        ) from error
    try:
        inspect.signature(make).bind()
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{reference} cannot be called without arguments ({error}): name a function that returns the position store"
        ) from None
    store = make()
    if not isinstance(store, PositionStore):
        raise ConfigError(
            f"{reference} returned {store!r}; it must return a binlogsync.stores.PositionStore of a checkpoint store, "
            "a bookmark store and a lease store"
        )
    return store
