"""Certificates of a private authority, for tests of TLS."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of a private authority, with one certificate of 127.0.0.1 for server and client."""

    ca: str
    cert: str
    key: str


def make_certificates(folder: Path) -> Certificates:
    """Write the files to `folder`; skip the test without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for command in (
        # Python 3.13 requires an authority to name its key usage.
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt"
        " -addext keyUsage=critical,keyCertSign,cRLSign",
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return Certificates(str(folder / "ca.crt"), str(folder / "server.crt"), str(folder / "server.key"))
