"""The sources of this deployment, from BINLOGSYNC_SOURCE: "main" by default, several names separated by commas.

The first source is configured by BINLOGSYNC_MYSQL_HOST and so on, another source, for example "eu", by
BINLOGSYNC_EU_MYSQL_HOST and so on.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from binlogsync.codec.subjects import check_source
from binlogsync.errors import ConfigError
from binlogsync.variables import check_variables
from dagster_binlogsync.keys import safe_part


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """One source.

    Attributes:
        name: name of the source in streams, tags and asset keys.
        mysql_key: resource key of its MySQLSource.
        prefix: prefix of its environment variables.
    """

    name: str
    mysql_key: str
    prefix: str


def configured_sources(environment: Mapping[str, str] = os.environ) -> tuple[SourceSettings, ...]:
    """The configured sources. Raises ConfigError for an invalid or duplicate name, and for an unknown variable."""
    names = [name.strip() for name in (environment.get("BINLOGSYNC_SOURCE") or "main").split(",") if name.strip()]
    keys = [safe_part(check_source(name)) for name in names]
    if not names or len(set(keys)) != len(keys):
        raise ConfigError(
            f"BINLOGSYNC_SOURCE={','.join(names)}: name at least one source, and each only once (- equals _)"
        )
    check_variables(environment, names)
    first = SourceSettings(names[0], "mysql", "BINLOGSYNC_MYSQL")
    return (
        first,
        *(
            SourceSettings(name, f"mysql_{key}", f"BINLOGSYNC_{key.upper()}_MYSQL")
            for name, key in zip(names[1:], keys[1:], strict=True)
        ),
    )
