"""A user's handler, read from its signature: what it wants of a table's changes, and how it gets it.

    def on_hole(change: Change[Hole]) -> None                one change after the other
    def on_holes(changes: list[Change[Hole]]) -> None        a batch, as a list
    def on_frame(frame: pandas.DataFrame) -> None            a batch, a row a change
    def on_batch(batch: pyarrow.RecordBatch) -> None         a batch, in columns

The annotation of the first parameter decides; a function without one gets one change after the other. A second
parameter asks for the DuckDB connection of the transaction that stores progress. Each may be `async def`. What the
annotation asks for and cannot be had is a ConfigError when the handler is defined.

A frame has the columns `op`, `id`, `ts` (commit time), `gtid`, `file`, `pos`, `row`, and `before.x` and `after.x` of
each column x, with Arrow's own types, so that integers with NULLs stay integers. A record batch has the same, with
`before` and `after` as structs. With a model they hold the columns of its fields only. Zero and impossible dates are
NULL in both, and a warning says how many; the other two shapes have them as text.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import pyarrow as pa

from binlogsync.change import Change, ChangeBatch
from binlogsync.errors import ConfigError

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

log = logging.getLogger(__name__)
M = TypeVar("M")

# pyarrow publishes no types: a function of a RecordBatch is one of anything to a type checker, and passes.
HandlerFunction: TypeAlias = Union[  # noqa: UP007 - the quoted names inside cannot be joined by |
    Callable[[Change[M]], object],
    Callable[[Change[M], "duckdb.DuckDBPyConnection"], object],
    Callable[[list[Change[M]]], object],
    Callable[[list[Change[M]], "duckdb.DuckDBPyConnection"], object],
    Callable[["pd.DataFrame"], object],
    Callable[["pd.DataFrame", "duckdb.DuckDBPyConnection"], object],
]
"""What may handle changes of the model M, as a type checker sees it."""
Shape = Literal["change", "list", "frame", "arrow"]
_PLACES = ("gtid", "file", "pos", "row")
_FORMS = (
    "write it as fn(change: Change[Model]), fn(changes: list[Change[Model]]), fn(frame: pandas.DataFrame) or "
    "fn(batch: pyarrow.RecordBatch), each with an optional second parameter for the DuckDB connection"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler asks for.

    Attributes:
        shape: one change, a list of them, a DataFrame or a RecordBatch.
        in_transaction: it takes the DuckDB connection as its second argument.
        is_async: calling it gives a coroutine.
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
    except ValueError as error:  # some functions written in C do not tell
        raise ConfigError(f"handler {name} does not tell its parameters; wrap it in a function of yours") from error
    parameters = [p for p in everything if p.kind in kinds and p.default is p.empty]
    if not parameters and any(p.kind is p.VAR_POSITIONAL for p in everything):
        return Signature("change", is_async=_is_async(fn))
    if len(parameters) not in (1, 2):
        raise ConfigError(f"handler {name} takes {len(parameters)} arguments; {_FORMS}")
    shape = _shape(name, _annotation(name, fn, parameters[0], model), model)
    if shape in ("change", "list") and model is None:
        raise ConfigError(f"handler {name} wants changes with instances of a model; give the model as well")
    return Signature(shape, len(parameters) == 2, _is_async(fn))


def _annotation(name: str, fn: Callable[..., object], parameter: inspect.Parameter, model: type | None) -> Any:
    """What the first parameter is said to be, where it is postponed or quoted too."""
    text = parameter.annotation
    if not isinstance(text, str):
        return text
    plain: Any = inspect.unwrap(fn.func if isinstance(fn, functools.partial) else fn)
    plain = getattr(plain, "__func__", plain)
    scope = getattr(plain, "__globals__", None) or getattr(type(plain).__call__, "__globals__", {})
    # A model that is local to a function is not found in the module.
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
    if annotation is pa.RecordBatch:
        return "arrow"
    pandas = sys.modules.get("pandas")
    if pandas is not None and annotation is pandas.DataFrame:
        return "frame"
    shown = getattr(annotation, "__name__", None) if get_origin(annotation) is None else None
    raise ConfigError(f"handler {name} asks for {shown or annotation}, which no change can be given as; {_FORMS}")


def _checked(name: str, change: Any, model: type | None, shape: Shape) -> Shape:
    """The shape, when `Change[X]` speaks of the model that was given."""
    for asked in get_args(change):
        if model is not None and asked not in (Any, model) and not isinstance(asked, TypeVar):
            shown = getattr(asked, "__name__", asked)
            raise ConfigError(
                f"handler {name} asks for Change[{shown}], and the model given is {model.__name__}; make them the same"
            )
    return shape


def _is_async(fn: Callable[..., object]) -> bool:
    if isinstance(fn, functools.partial):
        return _is_async(fn.func)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004


def record_batch(batch: ChangeBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
    """The changes in columns, with the images cut down to those columns of the table; None keeps all."""
    _warn_of_impossible(batch, columns)
    data = batch.data
    fields: dict[str, pa.Array] = {
        "op": data.column("op").cast(pa.string()),
        "id": batch.ids(),
        "ts": data.column("ts_us"),
        **{name: _plain(data.column(name)) for name in _PLACES},
        **{image: _cut(data.column(image), columns) for image in ("before", "after")},
    }
    return pa.RecordBatch.from_pydict(fields)


def frame(batch: ChangeBatch, columns: Sequence[str] | None) -> pd.DataFrame:
    """The same as a DataFrame, a column for each column of an image."""
    import pandas as pd

    whole = record_batch(batch, columns)
    flat = {name: whole.column(name) for name in whole.schema.names if name not in ("before", "after")}
    for image in ("before", "after"):
        struct: pa.StructArray = whole.column(image)
        flat |= {
            f"{image}.{item.name}": _plain(values) for item, values in zip(struct.type, struct.flatten(), strict=True)
        }
    made: pd.DataFrame = pa.table(flat).to_pandas(types_mapper=pd.ArrowDtype)
    return made


def _plain(array: pa.Array) -> pa.Array:
    """Labels as strings: pandas' methods for text do not take dictionaries."""
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def _cut(struct: pa.StructArray, columns: Sequence[str] | None) -> pa.StructArray:
    if columns is None:
        return struct
    kept = [index for index, item in enumerate(struct.type) if item.name in columns]
    fields = [struct.type.field(index) for index in kept]
    arrays = [struct.field(index) for index in kept]
    if not fields:
        return pa.nulls(len(struct), pa.struct([]))
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=struct.is_null())


def _warn_of_impossible(batch: ChangeBatch, columns: Sequence[str] | None) -> None:
    for image, column, count in _impossible(batch):
        if columns is None or column in columns:
            log.warning(
                "%s.%s: %d zero or impossible date(s) in %s are NULL in this batch; a handler of Change[...] gets "
                "their text",
                batch.schema.name, column, count, image,
            )  # fmt: skip


def _impossible(batch: ChangeBatch) -> Iterator[tuple[str, str, int]]:
    for (image, column), texts in batch.impossible.items():
        if count := len(texts) - texts.null_count:
            yield image, column, count
