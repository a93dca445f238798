"""The MySQL or MariaDB server whose binary log is tailed."""

from typing import TYPE_CHECKING, cast

import dagster as dg
from pydantic import Field

from binlogsync.settings.model import MySQLSection
from dagster_binlogsync.setting_field import setting_field

if TYPE_CHECKING:
    from binlogsync.mysql.config import MySQLConfig, TLSMode


class MySQLSource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Connection settings of the server. The library opens and closes the connections."""

    host: str = setting_field(MySQLSection, "host")
    port: int = setting_field(MySQLSection, "port")
    user: str = setting_field(MySQLSection, "user")
    password: str = setting_field(MySQLSection, "password", default="")
    unix_socket: str | None = setting_field(MySQLSection, "socket")
    tls_mode: str = setting_field(MySQLSection, "tls")
    tls_ca_file: str | None = setting_field(MySQLSection, "tls_ca_file")
    tls_cert_file: str | None = setting_field(MySQLSection, "tls_cert_file")
    tls_key_file: str | None = setting_field(MySQLSection, "tls_key_file")
    public_key_file: str | None = setting_field(MySQLSection, "public_key_file")
    server_id: int | None = setting_field(MySQLSection, "server_id")
    replicas: str | None = setting_field(MySQLSection, "replicas")
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Timeout of a connection attempt in seconds.")

    def config(self, source: str) -> "MySQLConfig":
        """The settings as the library takes them. Raises ConfigError for invalid values."""
        from binlogsync.mysql.config import TLS, MySQLConfig

        return MySQLConfig(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            unix_socket=self.unix_socket,
            tls=TLS(cast("TLSMode", self.tls_mode), self.tls_ca_file, self.tls_cert_file, self.tls_key_file),
            public_key_file=self.public_key_file,
            server_id=self.server_id,
            source=source,
            replicas=self.replicas,
            connect_timeout_s=self.connect_timeout_s,
        )
