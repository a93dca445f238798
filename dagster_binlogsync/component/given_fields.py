"""Fields of the component in YAML: one that is written has a value.

The value of a template is unknown when YAML is checked. A variable that is not set must not become a default in
silence: the default, a server on this host, may be another one than the user has in mind.
"""

from typing import Any

import dagster as dg
from dagster.components.resolved.context import ResolutionContext
from pydantic import BaseModel

from binlogsync.errors import ConfigError


class GivenFields(dg.Resolvable):
    """Fields from YAML, which have no value only if they are left out."""

    @classmethod
    def resolve_from_model(cls, context: ResolutionContext, model: BaseModel) -> Any:
        """The fields with their templates resolved. Raises ConfigError for a template without a value."""
        made = super().resolve_from_model(context, model)
        check_values(model, made, cls.__name__)
        return made


def check_values(model: BaseModel, made: object, owner: str) -> None:
    """Raise ConfigError if a template of `model` has no value in what was made of it; `owner` is its name."""
    for name in sorted(model.model_fields_set):
        written = getattr(model, name)
        if isinstance(written, str) and getattr(made, name) is None:
            raise ConfigError(
                f"{name}: {written} has no value ({owner}); set the variable in the environment or in .env, or leave "
                f"{name} out for its default"
            )
