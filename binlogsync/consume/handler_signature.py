"""Reads the signature of a user's handler, which decides how the handler gets the changes of a table.

    def on_hole(change: Change[Hole]) -> None                one change at a time
    def on_holes(changes: list[Change[Hole]]) -> None        a batch as a list
    def on_frame(frame: pandas.DataFrame) -> None            a batch as a DataFrame, one row for each change
    def on_batch(batch: pyarrow.RecordBatch) -> None         a batch as Arrow columns

The annotation of the first parameter decides; a function without annotation gets one change at a time. A second
parameter receives the DuckDB connection of the transaction that stores progress. Each form may be `async def`. An
unsupported annotation is a ConfigError when the handler is defined. handler_frames.py describes frames and batches.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from binlogsync.change import Change
from binlogsync.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

M = TypeVar("M")

# The type of a second parameter depends on the target (TableTransaction.connection). pyarrow publishes no types: to a
# type checker, a RecordBatch parameter is Any, so such a function passes.
HandlerFunction: TypeAlias = Union[  # noqa: UP007 - the quoted names inside cannot be joined by |
    Callable[[Change[M]], object],
    Callable[[Change[M], Any], object],
    Callable[[list[Change[M]]], object],
    Callable[[list[Change[M]], Any], object],
    Callable[["pd.DataFrame"], object],
    Callable[["pd.DataFrame", Any], object],
]
"""The handlers of changes of the model M, for type checkers."""
Shape = Literal["change", "list", "frame", "arrow"]
_FORMS = (
    "write it as fn(change: Change[Model]), fn(changes: list[Change[Model]]), fn(frame: pandas.DataFrame) or "
    "fn(batch: pyarrow.RecordBatch), each with an optional second parameter for the DuckDB connection"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a handler is called.

    Attributes:
        shape: the first argument: one change, a list of changes, a DataFrame or a RecordBatch.
        in_transaction: True when the second argument is the DuckDB connection.
        is_async: True when a call returns a coroutine.
    """

    shape: Shape
    in_transaction: bool = False
    is_async: bool = False


def read_signature(fn: Callable[..., object], model: type | None) -> Signature:
    """The signature of a handler for changes of that model (None: of all columns); raises ConfigError."""
    name = getattr(fn, "__qualname__", None) or repr(fn)
    if not callable(fn):
        raise ConfigError(f"handler {fn!r} is not a function; {_FORMS}")
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        everything = list(inspect.signature(fn).parameters.values())
    except ValueError as error:  # some functions written in C have no signature
        raise ConfigError(f"handler {name} has no readable signature; wrap it in a Python function") from error
    parameters = [p for p in everything if p.kind in kinds and p.default is p.empty]
    if not parameters and any(p.kind is p.VAR_POSITIONAL for p in everything):
        return Signature("change", is_async=_is_async(fn))
    if len(parameters) not in (1, 2):
        raise ConfigError(f"handler {name} takes {len(parameters)} arguments; {_FORMS}")
    shape = _shape(name, _annotation(name, fn, parameters[0], model), model)
    if shape in ("change", "list") and model is None:
        raise ConfigError(f"handler {name} takes changes with instances of a model; give the model as well")
    return Signature(shape, len(parameters) == 2, _is_async(fn))


def _annotation(name: str, fn: Callable[..., object], parameter: inspect.Parameter, model: type | None) -> Any:
    """The annotation of the first parameter, resolved if it is postponed or quoted."""
    text = parameter.annotation
    if not isinstance(text, str):
        return text
    inner: Any = inspect.unwrap(fn.func if isinstance(fn, functools.partial) else fn)
    inner = getattr(inner, "__func__", inner)
    scope = getattr(inner, "__globals__", None) or getattr(type(inner).__call__, "__globals__", {})
    # A model that is local to a function is not in the module's globals.
    local = {"Change": Change, **({model.__name__: model} if model is not None else {})}
    try:
        return eval(text, {**local, **scope})
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ConfigError(
            f"handler {name}: the annotation {text!r} of {parameter.name} cannot be resolved ({error}); import what "
            "it names at the top of the module, not under TYPE_CHECKING"
        ) from error


def _shape(name: str, annotation: Any, model: type | None) -> Shape:
    if annotation in (inspect.Parameter.empty, Any):
        return "change"
    origin = get_origin(annotation) or annotation
    if origin is Change:
        return _checked(name, annotation, model, "change")
    if origin in (list, Sequence):
        inner = (*get_args(annotation), None)[0]
        if (get_origin(inner) or inner) is Change:
            return _checked(name, inner, model, "list")
    # Who annotates a handler with a class of these libraries has imported them.
    pyarrow, pandas = sys.modules.get("pyarrow"), sys.modules.get("pandas")
    if pyarrow is not None and annotation is pyarrow.RecordBatch:
        return "arrow"
    if pandas is not None and annotation is pandas.DataFrame:
        return "frame"
    shown = getattr(annotation, "__name__", None) if get_origin(annotation) is None else None
    raise ConfigError(f"handler {name} takes {shown or annotation}, which is not supported; {_FORMS}")


def _checked(name: str, change: Any, model: type | None, shape: Shape) -> Shape:
    """The shape; raises ConfigError when `Change[X]` names another model than the one given."""
    for asked in get_args(change):
        if model is not None and asked not in (Any, model) and not isinstance(asked, TypeVar):
            shown = getattr(asked, "__name__", asked)
            raise ConfigError(
                f"handler {name} takes Change[{shown}], but the model given is {model.__name__}; make them the same"
            )
    return shape


def _is_async(fn: Callable[..., object]) -> bool:
    if isinstance(fn, functools.partial):
        return _is_async(fn.func)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
