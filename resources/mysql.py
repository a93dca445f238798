"""The MySQL or MariaDB server whose binary log is read."""

from typing import cast

import dagster as dg
from pydantic import Field

from binlogsync.mysql.config import TLS, MySQLConfig, TLSMode
from resources import environment


class MySQLSource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where the server is and how to log in. The library opens connections, and closes them; this is data."""

    host: str = Field(
        default="127.0.0.1",
        description="Host; or several that replicate from each other, as db1,db2:3307.",
    )
    port: int = Field(default=3306, description="TCP port.")
    user: str = Field(
        default="binlogsync", description="Account with REPLICATION SLAVE, REPLICATION CLIENT and SELECT."
    )
    password: str = Field(default="", description="Give it as an environment variable.")
    unix_socket: str | None = Field(default=None, description="Path of the server's socket; wins over host and port.")
    tls_mode: str = Field(
        default="preferred",
        description="preferred, required, verify_ca, verify_identity or disabled, as --ssl-mode of mysql.",
    )
    tls_ca_file: str | None = Field(
        default=None, description="Certificate authority (PEM) for verify_ca and verify_identity."
    )
    tls_cert_file: str | None = Field(default=None, description="Certificate of this client (PEM).")
    tls_key_file: str | None = Field(default=None, description="Its key (PEM).")
    public_key_file: str | None = Field(
        default=None, description="The server's RSA key (PEM), for caching_sha2_password where there is no TLS."
    )
    server_id: int | None = Field(
        default=None, description="Id of this reader among the server's replicas; none derives a stable one."
    )
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Seconds until an attempt to connect is given up.")

    def config(self, source: str) -> MySQLConfig:
        """The same for the library; raises ConfigError for what cannot be right."""
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

    @classmethod
    def from_environment(cls, prefix: str = "BINLOGSYNC_MYSQL") -> "MySQLSource":
        """<prefix>_HOST, _PORT, _USER, _PASSWORD, _SOCKET, _TLS (the mode), _TLS_CA_FILE, ..., _SERVER_ID."""
        return cls(
            host=environment.text(f"{prefix}_HOST", "127.0.0.1"),
            port=environment.integer(f"{prefix}_PORT", 3306),
            user=environment.text(f"{prefix}_USER", "binlogsync"),
            password=environment.text(f"{prefix}_PASSWORD", ""),
            unix_socket=environment.optional_text(f"{prefix}_SOCKET"),
            tls_mode=environment.text(f"{prefix}_TLS", "preferred"),
            tls_ca_file=environment.optional_text(f"{prefix}_TLS_CA_FILE"),
            tls_cert_file=environment.optional_text(f"{prefix}_TLS_CERT_FILE"),
            tls_key_file=environment.optional_text(f"{prefix}_TLS_KEY_FILE"),
            public_key_file=environment.optional_text(f"{prefix}_PUBLIC_KEY_FILE"),
            server_id=environment.optional_integer(f"{prefix}_SERVER_ID"),
        )
