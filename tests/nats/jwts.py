"""Keys and JWTs of an operator, an account and a user, as created by `nsc`, for tests of credentials."""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

_UNLIMITED = dict.fromkeys(
    (
        "subs",
        "data",
        "payload",
        "imports",
        "exports",
        "conn",
        "leaf",
        "mem_storage",
        "disk_storage",
        "streams",
        "consumer",
    ),
    -1,
)


@dataclass(frozen=True, slots=True)
class Key:
    """An NKey pair."""

    seed: str
    public: str

    @classmethod
    def make(cls, prefix: int) -> Key:
        """A new key pair of that kind."""
        seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
        return cls(seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode())

    def sign(self, data: bytes) -> bytes:
        """The signature of the data."""
        signature: bytes = nkeys.from_seed(bytearray(self.seed.encode())).sign(data)
        return signature


def user_key() -> Key:
    """A user's."""
    return Key.make(nkeys.PREFIX_BYTE_USER)


def jwt(issuer: Key, subject: Key, name: str, claims: dict[str, Any]) -> str:
    """Claims on the subject, signed by the issuer."""
    body = {
        "jti": os.urandom(16).hex(),
        "iat": int(time.time()),
        "iss": issuer.public,
        "sub": subject.public,
        "name": name,
        "nats": {**claims, "version": 2},
    }
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, body]
    text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_encoded(issuer.sign(text.encode()))}"


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def operator_mode(folder: Path) -> tuple[dict[str, str], Path]:
    """Lines of a server's configuration with an operator, and the credentials file of a user of its account."""
    operator, system = Key.make(nkeys.PREFIX_BYTE_OPERATOR), Key.make(nkeys.PREFIX_BYTE_ACCOUNT)
    account, user = Key.make(nkeys.PREFIX_BYTE_ACCOUNT), user_key()
    of_account = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True}}
    of_system = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True, "mem_storage": 0, "disk_storage": 0}}
    preload = {
        account.public: jwt(operator, account, "app", of_account),
        system.public: jwt(operator, system, "SYS", of_system),
    }
    of_user = {"type": "user", "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}}
    own = jwt(account, user, "tail", of_user)
    credentials = folder / "user.creds"
    credentials.write_text(
        f"-----BEGIN NATS USER JWT-----\n{own}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    lines = {
        "operator": jwt(operator, operator, "op", {"type": "operator"}),
        "system_account": system.public,
        "resolver": "MEMORY",
        "resolver_preload": "{ " + ", ".join(f'{key}: "{text}"' for key, text in preload.items()) + " }",
    }
    return lines, credentials
