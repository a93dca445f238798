"""Changes single settings of a stream, and keeps all others as the server has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import nats.js.errors
from nats.aio.client import Client

_TIMEOUT_S = 10.0


async def update_stream(client: Client, name: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Apply `change` to the configuration, as JSON; nothing is written if it changes nothing.

    The client library would leave out settings that it does not know. Raises nats.js.errors.APIError.
    """
    config: dict[str, Any] = (await request_api(client, f"STREAM.INFO.{name}"))["config"]
    wanted = {**config, **change(config)}
    if wanted != config:
        await request_api(client, f"STREAM.UPDATE.{name}", wanted)


async def request_api(client: Client, what: str, body: object = None) -> dict[str, Any]:
    """The reply of the JetStream API. Raises nats.js.errors.APIError."""
    text = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{what}", text, timeout=_TIMEOUT_S)).data)
    if "error" in answer:
        raise nats.js.errors.APIError.from_error(answer["error"])
    return answer
