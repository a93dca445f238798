"""Keys of the resources that the jobs, assets, checks and sensors of one source require.

`Definitions.merge` refuses two resources with one key, so a library cannot take plain keys like "warehouse" in a
project of the user: there, `ResourceKeys.of_source` puts the name of the source in each.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from dagster_binlogsync.keys import safe_part


@dataclass(frozen=True, slots=True)
class ResourceKeys:
    """The key of each resource of a source.

    Attributes:
        mysql: key of its MySQLSource.
        jetstream, positions, audit, warehouse: keys of the resource of this kind.
    """

    mysql: str = "mysql"
    jetstream: str = "jetstream"
    positions: str = "positions"
    audit: str = "audit"
    warehouse: str = "warehouse"

    @classmethod
    def of_source(cls, source: str) -> "ResourceKeys":
        """Keys that contain the name of the source: "binlogsync_main_mysql" and so on."""
        return cls(**{field.name: f"binlogsync_{safe_part(source)}_{field.name}" for field in fields(cls)})

    def require(self, kinds: Iterable[str]) -> set[str]:
        """The keys of these kinds ("mysql", "warehouse"), for `required_resource_keys`."""
        return {getattr(self, kind) for kind in kinds}

    def find(self, context: Any) -> "SourceResources":
        """The resources in the context of an asset, an op, a check or a sensor."""
        return SourceResources(context.resources, self)


class SourceResources:
    """The resources of one source, by kind. Only those that were required exist."""

    def __init__(self, resources: Any, keys: ResourceKeys) -> None:
        self._resources, self._keys = resources, keys

    def __getattr__(self, kind: str) -> Any:
        """The resource of the kind: mysql, jetstream, positions, audit or warehouse."""
        if kind.startswith("_"):
            raise AttributeError(kind)
        return getattr(self._resources, getattr(self._keys, kind))
