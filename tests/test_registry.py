"""Tests of `registry` against a server on loopback that misbehaves as told."""

import base64
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from repo_api.errors import FormatError, IntegrityError, RegistryError, ReleaseNotFoundError
from repo_api.registry import OciRegistry
from repo_api.release import Descriptor, Reference

CONTENT = bytes(range(256)) * 12_000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
LAYER = Descriptor("application/octet-stream", DIGEST, len(CONTENT), "model.pkl")
REPOSITORY = "edustream/churn-model"
LOGIN = base64.b64encode(b"ana:secret").decode()


class Server(ThreadingHTTPServer):
    """A registry that knows one blob, which is its manifest too."""

    def __init__(self) -> None:
        """Listen on a free port; nothing is in the script."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_port}"
        self.content = CONTENT
        self.requests: list[str] = []
        self.sent: list[tuple[str, bytes]] = []
        self.script: deque[Callable[[Handler], None]] = deque()
        self.wanted_login: str | None = None
        self.challenge = ""

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that went away."""


class Handler(BaseHTTPRequestHandler):
    """Follows the script of the server; when that is over, behaves."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.removeprefix(f"/v2/{REPOSITORY}/")
        self.server.requests.append(
            f"{self.command} {path} {self.headers.get('Range', '')}".strip()
        )
        if path.startswith("/token"):
            self.answer(200, json.dumps({"token": "t0ken"}).encode())
        elif self.server.wanted_login not in (None, self.headers.get("Authorization")):
            self.answer(401, b"", {"WWW-Authenticate": self.server.challenge})
        elif self.server.script:
            self.server.script.popleft()(self)
        else:
            self.behave()

    do_HEAD = do_POST = do_GET  # noqa: N815  its name in http.server

    def do_PUT(self) -> None:
        """Keep what was sent, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append((self.headers["Content-Type"], body))
        self.do_GET()

    def behave(self) -> None:
        """Answer as a registry should."""
        if not self.path.endswith((DIGEST, "/v2")):
            self.answer(404, b"")
            return
        start = int(self.headers.get("Range", "bytes=0-").strip("bytes=-"))
        self.answer(
            206 if start else 200,
            self.server.content[start:],
            {"Docker-Content-Digest": DIGEST},
        )

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests quiet."""


def answer(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, body, headers)


def refuse(status: int) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, b"no")


def break_off(handler: Handler) -> None:
    """Promise all, send half of it, and hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(CONTENT)))
    handler.end_headers()
    handler.wfile.write(CONTENT[: len(CONTENT) // 2])
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def ignore_range(handler: Handler) -> None:
    handler.answer(200, CONTENT)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


@pytest.fixture
def login(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave behind what `oras login` does."""
    folder = tmp_path / "docker"
    folder.mkdir()
    config = {"auths": {server.address: {"auth": LOGIN}}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def reference(server: Server, tag: str = "v2") -> Reference:
    return Reference(server.address, REPOSITORY, tag)


def fetch(server: Server, into: Path, layer: Descriptor = LAYER) -> int:
    """Fetch the layer and return how many bytes were reported."""
    reported: list[int] = []
    OciRegistry(server.address).fetch(REPOSITORY, layer, into, reported.append)
    return sum(reported)


def test_resolve_costs_one_head_request(server: Server) -> None:
    digest = OciRegistry(server.address).resolve(reference(server, "v2"))

    assert digest == DIGEST
    assert server.requests == ["HEAD manifests/v2"]


def test_resolve_tells_what_is_not_released(server: Server) -> None:
    with pytest.raises(ReleaseNotFoundError, match=r"churn-model:v3: not released"):
        OciRegistry(server.address).resolve(reference(server, "v3"))


def test_resolve_refuses_an_answer_without_a_digest(server: Server) -> None:
    server.script.append(lambda handler: handler.answer(200, b""))

    with pytest.raises(RegistryError, match="expected a sha256 digest, got ''"):
        OciRegistry(server.address).resolve(reference(server))


def test_resolve_refuses_a_digest_that_stands_for_another(server: Server) -> None:
    other = "sha256:" + "0" * 64
    server.script.append(
        lambda handler: handler.answer(200, b"", {"Docker-Content-Digest": DIGEST})
    )

    with pytest.raises(IntegrityError, match=f"expected {other}, got {DIGEST}"):
        OciRegistry(server.address).resolve(reference(server, other))


def test_manifest_returns_the_bytes_of_its_digest(server: Server) -> None:
    assert OciRegistry(server.address).manifest(REPOSITORY, DIGEST) == CONTENT


def test_manifest_refuses_other_bytes(server: Server) -> None:
    server.content = b"{}"

    with pytest.raises(IntegrityError, match=f"expected {DIGEST}"):
        OciRegistry(server.address).manifest(REPOSITORY, DIGEST)


def test_manifest_refuses_to_read_without_end(server: Server) -> None:
    server.content = bytes(5 << 20)

    with pytest.raises(IntegrityError, match="at most 4194304 bytes, got more"):
        OciRegistry(server.address).manifest(REPOSITORY, DIGEST)


@pytest.mark.parametrize("trouble", [refuse(500), refuse(503), hang_up], ids=["500", "503", "drop"])
def test_two_failures_are_forgiven(server: Server, trouble: Callable[[Handler], None]) -> None:
    server.script.extend([trouble, trouble])

    assert OciRegistry(server.address).resolve(reference(server)) == DIGEST


def test_three_failures_are_too_many(server: Server) -> None:
    server.script.extend([refuse(502)] * 3)

    with pytest.raises(RegistryError, match="the registry answers 502 Bad Gateway"):
        OciRegistry(server.address).resolve(reference(server))
    assert len(server.requests) == 3


def test_a_registry_that_is_down_is_named_with_the_way_out() -> None:
    with Server() as server:
        address = server.address

    with pytest.raises(
        RegistryError, match=rf"{address}: .* not answer .*refused.*EDUSTREAM_REGISTRY"
    ):
        OciRegistry(address).resolve(Reference(address, REPOSITORY, "v2"))


def test_fetch_writes_the_layer_and_reports_its_bytes(server: Server, tmp_path: Path) -> None:
    reported = fetch(server, tmp_path / "layer")

    assert (tmp_path / "layer").read_bytes() == CONTENT
    assert reported == len(CONTENT)


def test_fetch_refuses_a_flipped_bit(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"\0"

    with pytest.raises(IntegrityError, match=rf"model\.pkl: expected {DIGEST}"):
        fetch(server, tmp_path / "layer")


def test_fetch_refuses_a_truncated_layer(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1]

    with pytest.raises(IntegrityError, match="expected 3072000 bytes, got 3071999 bytes"):
        fetch(server, tmp_path / "layer")


def test_fetch_stops_at_a_layer_that_is_too_long(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT + bytes(10 << 20)

    with pytest.raises(IntegrityError, match="expected 3072000 bytes, got more"):
        fetch(server, tmp_path / "layer")
    assert (tmp_path / "layer").stat().st_size <= len(CONTENT)


def test_fetch_resumes_where_the_transfer_broke_off(server: Server, tmp_path: Path) -> None:
    server.script.append(break_off)

    reported = fetch(server, tmp_path / "layer")

    assert (tmp_path / "layer").read_bytes() == CONTENT
    assert reported == len(CONTENT)
    assert server.requests[1].startswith(f"GET blobs/{DIGEST} bytes=")


def test_fetch_starts_over_where_there_are_no_ranges(server: Server, tmp_path: Path) -> None:
    server.script.extend([break_off, ignore_range])

    reported = fetch(server, tmp_path / "layer")

    assert (tmp_path / "layer").read_bytes() == CONTENT
    assert reported == len(CONTENT)


def test_fetch_completes_what_another_process_has_begun(server: Server, tmp_path: Path) -> None:
    begun = len(CONTENT) // 3
    (tmp_path / "layer").write_bytes(CONTENT[:begun])

    reported = fetch(server, tmp_path / "layer")

    assert (tmp_path / "layer").read_bytes() == CONTENT
    assert reported == len(CONTENT)
    assert server.requests == [f"GET blobs/{DIGEST} bytes={begun}-"]


def test_fetch_refuses_a_layer_that_is_shorter_than_what_was_fetched(
    server: Server, tmp_path: Path
) -> None:
    server.content = CONTENT[:100]
    (tmp_path / "layer").write_bytes(CONTENT[:200])
    server.script.append(answer(416))

    with pytest.raises(IntegrityError, match="expected 3072000 bytes, got 100 bytes"):
        fetch(server, tmp_path / "layer")


def test_fetch_asks_for_nothing_where_the_layer_is_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(CONTENT)

    reported = fetch(server, tmp_path / "layer")

    assert reported == len(CONTENT)
    assert server.requests == []


@pytest.mark.parametrize(
    "left",
    [bytes(100), bytes(len(CONTENT)), CONTENT + b"more"],
    ids=["a wrong beginning", "a wrong layer", "too much"],
)
def test_fetch_begins_anew_where_what_is_there_is_wrong(
    server: Server, tmp_path: Path, left: bytes
) -> None:
    (tmp_path / "layer").write_bytes(left)

    reported = fetch(server, tmp_path / "layer")

    assert (tmp_path / "layer").read_bytes() == CONTENT
    assert reported == len(CONTENT)


def test_fetch_gives_up_on_a_transfer_that_always_breaks_off(
    server: Server, tmp_path: Path
) -> None:
    server.script.extend([break_off] * 6)

    with pytest.raises(RegistryError, match="the transfer broke off"):
        fetch(server, tmp_path / "layer")
    assert len(server.requests) == 6


def test_fetch_tells_which_layer_is_missing(server: Server, tmp_path: Path) -> None:
    lost = Descriptor(LAYER.media_type, "sha256:" + "0" * 64, 1, "lost.pkl")

    with pytest.raises(RegistryError, match=r"lost\.pkl .* is missing; ask the producer"):
        fetch(server, tmp_path / "layer", lost)


@pytest.mark.usefixtures("login")
def test_a_basic_challenge_is_answered_with_the_stored_login(server: Server) -> None:
    server.wanted_login, server.challenge = f"Basic {LOGIN}", 'Basic realm="registry"'

    assert OciRegistry(server.address).resolve(reference(server)) == DIGEST


@pytest.mark.usefixtures("login")
def test_a_bearer_challenge_is_answered_with_a_token(server: Server) -> None:
    server.wanted_login = "Bearer t0ken"
    server.challenge = f'Bearer realm="http://{server.address}/token",service="registry"'
    registry = OciRegistry(server.address)

    registry.resolve(reference(server))
    registry.resolve(reference(server))

    assert [request.partition("?")[0] for request in server.requests] == [
        "HEAD manifests/v2",
        "GET /token",
        "HEAD manifests/v2",
        "HEAD manifests/v2",
    ]


@pytest.mark.parametrize(
    "challenge", ['Basic realm="registry"', "Bearer", ""], ids=["basic", "no realm", "none"]
)
def test_without_a_login_the_way_to_one_is_told(server: Server, challenge: str) -> None:
    server.wanted_login, server.challenge = "Basic nobody", challenge

    with pytest.raises(
        RegistryError, match=rf"refuses \(401\); log in: oras login {server.address}"
    ):
        OciRegistry(server.address).resolve(reference(server))


def test_a_broken_login_file_is_no_login(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server.wanted_login, server.challenge = "Basic nobody", 'Basic realm="registry"'

    with pytest.raises(RegistryError, match="log in"):
        OciRegistry(server.address).resolve(reference(server))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:5000", "http://localhost:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("http://registry.example", "http://registry.example/v2"),
        ("https://localhost:5000", "https://localhost:5000/v2"),
        ("localhost.example", "https://localhost.example/v2"),
    ],
)
def test_plain_http_is_for_this_machine_or_on_demand(address: str, url: str) -> None:
    assert OciRegistry(address).url == url


def index(*entries: tuple[str, str]) -> bytes:
    manifests = [{"digest": digest, "artifactType": kind} for digest, kind in entries]
    return json.dumps({"manifests": manifests}).encode()


@pytest.mark.parametrize("host", ["", "http://registry.inside:5000"])
def test_push_sends_what_is_not_there_to_where_it_is_told(server: Server, host: str) -> None:
    """A registry behind a proxy names the host that it has inside."""
    location = f"{host}/v2/{REPOSITORY}/blobs/uploads/1?state=a"
    server.script.extend(
        [answer(404), answer(202, headers={"Location": location}), answer(201)],
    )

    OciRegistry(server.address).push(REPOSITORY, LAYER, CONTENT)

    assert server.requests == [
        f"HEAD blobs/{DIGEST}",
        "POST blobs/uploads/",
        f"PUT blobs/uploads/1?state=a&digest={DIGEST}",
    ]
    assert server.sent == [("application/octet-stream", CONTENT)]


def test_push_sends_nothing_that_is_there(server: Server) -> None:
    OciRegistry(server.address).push(REPOSITORY, LAYER, CONTENT)

    assert server.requests == [f"HEAD blobs/{DIGEST}"]


def test_push_tells_that_there_is_no_place_for_it(server: Server) -> None:
    server.script.extend([answer(404), answer(404)])

    with pytest.raises(RegistryError, match=r"churn-model: not taken by the registry \(404\)"):
        OciRegistry(server.address).push(REPOSITORY, LAYER, CONTENT)


def test_push_manifest_lets_the_tag_stand_for_it(server: Server) -> None:
    server.script.append(answer(201))

    OciRegistry(server.address).push_manifest(reference(server, "v2.0.0"), b"{}")

    assert server.requests == ["PUT manifests/v2.0.0"]
    assert server.sent == [("application/vnd.oci.image.manifest.v1+json", b"{}")]


def test_referrers_are_those_of_the_type_on_every_page(server: Server) -> None:
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    following = {"Link": f'</v2/{REPOSITORY}/referrers/{DIGEST}?last=1>; rel="next"'}
    server.script.extend(
        [
            answer(200, index((first, "result"), (DIGEST, "other")), following),
            answer(200, index((second, "result"))),
        ]
    )

    found = OciRegistry(server.address).referrers(REPOSITORY, DIGEST, "result")

    assert found == (first, second)
    assert server.requests == [
        f"GET referrers/{DIGEST}?artifactType=result",
        f"GET referrers/{DIGEST}?last=1",
    ]


def test_referrers_are_under_a_tag_where_the_registry_has_no_list_of_them(server: Server) -> None:
    other = "sha256:" + "1" * 64
    server.script.extend([answer(404), answer(200, index((other, "result")))])

    found = OciRegistry(server.address).referrers(REPOSITORY, DIGEST, "result")

    assert found == (other,)
    assert server.requests[1] == f"GET manifests/{DIGEST.replace(':', '-')}"


def test_there_may_be_no_referrers(server: Server) -> None:
    server.script.extend([answer(404), answer(404), answer(200, b'{"manifests": null}')])
    registry = OciRegistry(server.address)

    assert [registry.referrers(REPOSITORY, DIGEST, "result") for _ in range(2)] == [(), ()]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"manifests": 7}', index(("latest", "it"))])
def test_referrers_that_cannot_be_read_are_no_empty_list(server: Server, body: bytes) -> None:
    server.script.append(answer(200, body))

    with pytest.raises(FormatError, match="referrers"):
        OciRegistry(server.address).referrers(REPOSITORY, DIGEST, "it")
