"""The limit: the HTTP stack of repo-api, in its environment, before a constant."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from repo_api.wire import OneWriteProtocol

ANSWER = json.dumps(
    {
        "probability": 0.5075976248225086,
        "decision": True,
        "version": "2.0.0",
        "digest": "sha256:" + "0" * 64,
    },
    separators=(",", ":"),
).encode()
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(ANSWER)).encode()),
    ],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(
    _scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Read the request to its end and give the answer."""
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        http=OneWriteProtocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        backlog=2048,
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
