"""Templates of the component in YAML: each expression in one has a value.

Dagster makes None of a variable that is not set, and the text "None" within other text. Neither may reach the component
in silence: None is the default, a server on this host perhaps, and a pattern `None.*` excludes nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel

from binlogsync.errors import ConfigError


class NoValueError(Exception):
    """An expression of a template has no value, for this reason."""


class UnsetVariable:
    """The value of `env.NAME` in a check of templates if the variable is not set: like None, but it is no text."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, UnsetVariable)

    def __str__(self) -> str:
        raise NoValueError(f"has no value, because {self._name} is not set")


class CheckedEnvironment:
    """`env` of Dagster's templates, with an `UnsetVariable` for each variable that is not set."""

    def __init__(self, env: Any) -> None:
        self._env = env

    def __call__(self, *arguments: Any) -> Any:
        return self._env(*arguments)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._env, name)
        return UnsetVariable(name) if value is None else value


def check_templates(model: BaseModel, scope: Mapping[str, Any]) -> None:
    """Raise ConfigError if an expression in a template of `model`, at any depth, has no value; `scope` has its names.

    Names that are not in the scope are left to Dagster: those of `translation` are there later.
    """
    names = {**scope, "env": CheckedEnvironment(scope["env"])} if "env" in scope else scope
    for path, text in _texts("", model):
        try:
            _check_text(text, names)
        except NoValueError as error:
            raise ConfigError(
                f"{path}: {text} {error}; set the variable in the environment or in .env, or leave {path} out for its "
                "default"
            ) from None


def _check_text(text: str, scope: Mapping[str, Any]) -> None:
    """Raise NoValueError if an expression of the template has no value."""
    from jinja2 import ChainableUndefined
    from jinja2.nativetypes import NativeEnvironment

    found: list[Any] = []

    def _collect(value: Any) -> Any:
        found.append(value)
        if value is None:
            raise NoValueError("has no value")
        return str(value) if isinstance(value, UnsetVariable) else value

    templates = NativeEnvironment(undefined=ChainableUndefined, finalize=_collect)
    templates.tests["none"] = lambda value: value is None or isinstance(value, UnsetVariable)
    try:
        templates.from_string(text).render(**scope)
    except NoValueError:
        raise
    except Exception as error:
        # Dagster renders the template again, and reports its other errors with their place in the file.
        if any(isinstance(value, dg.EnvVar) for value in found):
            raise NoValueError(
                "has a secret within other text, and a secret is read only when a run starts; put the whole text into "
                "the variable"
            ) from error


def _texts(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Each template within a value of the model, with its path: `tables[0].group`."""
    if isinstance(value, str):
        if "{{" in value:
            yield path, value
    elif isinstance(value, BaseModel):
        for name in sorted(value.model_fields_set):
            yield from _texts(f"{path}.{name}".lstrip("."), getattr(value, name))
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(f"{path}.{key}", each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from _texts(f"{path}[{number}]", each)
