"""Tests of the way an answer leaves, with uvicorn's own protocol over a transport that notes."""

import asyncio
import socket

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from repo_api.wire import OneWriteProtocol

HEADERS = [(b"content-type", b"text/plain")]


class NotingTransport(asyncio.Transport):
    """Notes every write."""

    def __init__(self) -> None:
        """Note nothing yet."""
        super().__init__({"socket": socket.socket()})
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note a write."""
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        """Note the end."""
        self.closed = True
        self.get_extra_info("socket").close()

    def is_closing(self) -> bool:
        """Tell whether it ended."""
        return self.closed


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the pieces that the path names."""
    await receive()
    pieces = scope["path"].strip("/").encode().split(b"-")
    length = [] if len(pieces) > 1 else [(b"content-length", b"%d" % len(pieces[0]))]
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *length]})
    for place, piece in enumerate(pieces, 1):
        more = place < len(pieces)
        await send({"type": "http.response.body", "body": piece, "more_body": more})


def writes(request: bytes) -> tuple[list[bytes], bool]:
    """Send a request; give what was written in answer, and whether the connection ended."""

    async def main() -> tuple[list[bytes], bool]:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        protocol = OneWriteProtocol(config, ServerState(), {})
        transport = NotingTransport()
        protocol.connection_made(transport)
        protocol.data_received(request)
        await asyncio.gather(*protocol.tasks)
        written, closed = [*transport.writes], transport.closed
        if not closed:
            protocol.connection_lost(None)
        return written, closed

    return asyncio.run(main())


def test_head_and_body_leave_in_one_write() -> None:
    (answer,), closed = writes(b"GET /abc HTTP/1.1\r\nhost: x\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nabc")
    assert not closed


def test_a_body_in_pieces_is_not_held_back() -> None:
    (first, second), _ = writes(b"GET /ab-HTTP HTTP/1.1\r\nhost: x\r\n\r\n")

    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n2\r\nab\r\n")
    assert second == b"4\r\nHTTP\r\n0\r\n\r\n"


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
def test_a_head_without_a_body_leaves_too(connection: bytes) -> None:
    request = b"HEAD /abc HTTP/1.1\r\nhost: x\r\nconnection: %s\r\n\r\n" % connection

    (answer,), closed = writes(request)

    assert answer.endswith(b"\r\n\r\n")
    assert closed == (connection == b"close")


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    go_on, answer = writes(
        b"POST /abc HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n1"
    )[0]

    assert go_on == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.endswith(b"abc")


def test_what_is_no_http_is_refused_in_one_write() -> None:
    (answer,), closed = writes(b"nonsense\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert closed
