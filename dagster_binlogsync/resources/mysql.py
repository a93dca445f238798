"""The MySQL or MariaDB server whose binary log is tailed."""

from typing import cast

import dagster as dg
from pydantic import Field

from binlogsync.mysql.config import TLS, MySQLConfig, TLSMode


class MySQLSource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Connection settings of the server. The library opens and closes the connections."""

    host: str = Field(
        default="127.0.0.1",
        description="Host, or several hosts that replicate from each other: db1,db2:3307.",
    )
    port: int = Field(default=3306, description="TCP port.")
    user: str = Field(
        default="binlogsync", description="Account with REPLICATION SLAVE, REPLICATION CLIENT and SELECT."
    )
    password: str = Field(default="", description="Password; set it by an environment variable.")
    unix_socket: str | None = Field(
        default=None, description="Path of the server's Unix socket; overrides host and port."
    )
    tls_mode: str = Field(
        default="preferred",
        description="preferred, required, verify_ca, verify_identity or disabled, as --ssl-mode of mysql.",
    )
    tls_ca_file: str | None = Field(
        default=None, description="Certificate authority (PEM) for verify_ca and verify_identity."
    )
    tls_cert_file: str | None = Field(default=None, description="Client certificate (PEM).")
    tls_key_file: str | None = Field(default=None, description="Key of the client certificate (PEM).")
    public_key_file: str | None = Field(
        default=None, description="The server's public RSA key (PEM), for caching_sha2_password without TLS."
    )
    server_id: int | None = Field(
        default=None, description="Server id of this replication client. None: a stable id is derived."
    )
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Timeout of a connection attempt in seconds.")

    def config(self, source: str) -> MySQLConfig:
        """The settings as the library takes them. Raises ConfigError for invalid values."""
        return MySQLConfig(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            unix_socket=self.unix_socket,
            tls=TLS(cast(TLSMode, self.tls_mode), self.tls_ca_file, self.tls_cert_file, self.tls_key_file),
            public_key_file=self.public_key_file,
            server_id=self.server_id,
            source=source,
            connect_timeout_s=self.connect_timeout_s,
        )
