"""Owns how an answer leaves: its head waits for its body, and both go in one write.

So a server must do (ASGI, HTTP & WebSocket message format, response start); uvicorn, which
owns all else, writes them one after the other: two system calls, and two packets.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: TID251

_HEADS = tuple(b"HTTP/1.1 %d" % kind for kind in (2, 3, 4, 5))
"""What a head starts with, other than that of `100 Continue`, which has no body."""


class OneWriteProtocol(HttpToolsProtocol):
    """uvicorn's protocol, over a transport that keeps a head back."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a new connection."""
        self._patient = _PatientTransport(transport)
        super().connection_made(self._patient)  # type: ignore[arg-type]  # all that uvicorn asks of it

    def on_response_complete(self) -> None:
        """Let a head go that no body follows: a HEAD request was answered."""
        self._patient.flush()
        super().on_response_complete()


class _PatientTransport:
    """A transport that keeps the head of an answer until more is written."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing  # asked for every answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever else a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write, or keep a head."""
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(_HEADS):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write a head that was kept."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        """Close, once everything is written."""
        self.flush()
        self._transport.close()
