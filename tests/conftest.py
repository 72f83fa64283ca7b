"""What the tests share: a registry that can lie, one small training, and one key pair."""

import hashlib
import json
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from packaging.version import Version
from threadpoolctl import threadpool_limits

from repo_ml.data.synthetic import synthetic
from repo_ml.data.table import training_of
from repo_ml.errors import IntegrityError, RegistryError
from repo_ml.package import package
from repo_ml.registry import OnBytes
from repo_ml.release import Descriptor, Reference, SignedRelease, Trained, Training
from repo_ml.schema import InputSchema
from repo_ml.sign import keygen, sign
from repo_ml.train import train

Digest = str
_KINDS = ("blobs", "manifests", "tags", "referrers")
Answer = tuple[int, Mapping[str, str], bytes]


def sha256(content: bytes) -> Digest:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def shipped(number: int) -> InputSchema:
    path = resources.files("repo_ml").joinpath("schemas", f"v{number}.json")
    return InputSchema.from_json(path.read_bytes(), path.name)


def schema_of(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> InputSchema:
    raw = {"type": "object", "properties": properties, "required": list(required)}
    return InputSchema.from_json(json.dumps(raw).encode(), "test.json")


class MemoryRegistry:
    """A registry that keeps its word, until it is told to refuse, corrupt or drop."""

    def __init__(self) -> None:
        """Start empty; `log` names what was written, in its order."""
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, bytes] = {}
        self.tagged: dict[tuple[str, str], Digest] = {}
        self.said: dict[Digest, list[tuple[str, Digest]]] = {}
        self.log: list[str] = []
        self._refused: set[str] = set()

    def refuse(self, what: str) -> None:
        """Refuse to take this layer, by its digest, or any manifest: `manifest`."""
        self._refused.add(what)

    def corrupt(self, digest: Digest) -> None:
        """Flip a bit of what is kept under a digest."""
        kept = self.blobs if digest in self.blobs else self.manifests
        kept[digest] = bytes([kept[digest][0] ^ 1]) + kept[digest][1:]

    def drop(self, digest: Digest) -> None:
        """Lose what is kept under a digest."""
        self.blobs.pop(digest, None)
        self.manifests.pop(digest, None)

    def resolve(self, reference: Reference) -> str | None:
        if reference.tag in self.manifests:
            return reference.tag
        return self.tagged.get((reference.repository, reference.tag))

    def tags(self, repository: str) -> tuple[str, ...]:
        return tuple(tag for where, tag in self.tagged if where == repository)

    def manifest(self, repository: str, digest: str) -> bytes:
        return _checked(self.manifests, repository, digest)

    def read(self, repository: str, layer: Descriptor) -> bytes:
        return _checked(self.blobs, repository, layer.digest)

    def push(
        self, repository: str, layer: Descriptor, source: Path | bytes, on_bytes: OnBytes
    ) -> None:
        if layer.digest in self._refused:
            raise RegistryError(f"{repository}: {layer.digest} is refused")
        content = source.read_bytes() if isinstance(source, Path) else source
        if sha256(content) != layer.digest or len(content) != layer.size:
            raise RegistryError(f"{repository}: not what {layer.digest} says")
        self.blobs[layer.digest] = content
        self.log.append(layer.digest)
        on_bytes(len(content))

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        if "manifest" in self._refused:
            raise RegistryError(f"{reference}: refused")
        raw = json.loads(content)
        for described in (raw["config"], *raw["layers"]):
            if described["digest"] not in self.blobs:
                raise RegistryError(f"{reference}: {described['digest']} is not there")
        self.manifests[sha256(content)] = content
        self.tagged[reference.repository, reference.tag] = sha256(content)
        self.log.append(reference.tag)

    def push_referrer(
        self, repository: str, subject: str, manifest: bytes, artifact_type: str
    ) -> None:
        self.manifests[sha256(manifest)] = manifest
        self.said.setdefault(subject, []).append((artifact_type, sha256(manifest)))
        self.log.append(f"{repository}@{sha256(manifest)}")

    def referrers(self, repository: str, subject: str, artifact_type: str) -> tuple[str, ...]:  # noqa: ARG002  # one repository is enough here
        return tuple(digest for kind, digest in self.said.get(subject, ()) if kind == artifact_type)


def _checked(kept: Mapping[Digest, bytes], repository: str, digest: Digest) -> bytes:
    if digest not in kept:
        raise RegistryError(f"{repository}@{digest}: missing in the registry")
    if sha256(kept[digest]) != digest:
        raise IntegrityError(f"{repository}@{digest}", digest, sha256(kept[digest]))
    return kept[digest]


class RegistryServer(ThreadingHTTPServer):
    """A `MemoryRegistry` behind the OCI distribution API, on loopback.

    `faults` holds answers to give instead, by method and a part of the path;
    each is given once. `seen` lists method, path, headers and body.
    """

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port."""
        super().__init__(("127.0.0.1", 0), _Front)
        self.registry = MemoryRegistry()
        self.faults: dict[tuple[str, str], deque[Answer]] = {}
        self.guard: Callable[[str, Mapping[str, str]], Answer | None] = lambda *_: None
        self.seen: list[tuple[str, str, Mapping[str, str], bytes]] = []
        self.address = f"127.0.0.1:{self.server_port}"

    def answer_instead(self, method: str, part: str, *answers: Answer) -> None:
        """Give these answers, in turn, to requests of a method with `part` in their path."""
        self.faults.setdefault((method, part), deque()).extend(answers)

    def count(self, method: str) -> int:
        """Count the requests of a method."""
        return sum(1 for seen in self.seen if seen[0] == method)


class _Front(BaseHTTPRequestHandler):
    server: RegistryServer
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        status, headers, content = self._decide(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_HEAD = do_GET = do_POST = do_PUT = _answer  # noqa: N815  # http.server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _decide(self, body: bytes) -> Answer:
        refusal = self.server.guard(self.path, dict(self.headers))
        if refusal is not None:
            return refusal
        for (method, part), answers in self.server.faults.items():
            if method == self.command and part in self.path and answers:
                return answers.popleft()
        try:
            return self._keep(body) if self.command in ("POST", "PUT") else self._give()
        except RegistryError as error:
            return 400, {}, str(error).encode()

    def _give(self) -> Answer:
        registry, (repository, kind, name) = self.server.registry, self._place()
        if kind == "tags":
            return 200, {}, json.dumps({"tags": registry.tags(repository)}).encode()
        if kind == "blobs":
            content = registry.blobs.get(name)
            return (404, {}, b"") if content is None else (200, {}, content)
        digest = registry.resolve(Reference("", repository, name))
        if digest is None or kind == "referrers":
            return 404, {}, b""
        return 200, {"Docker-Content-Digest": digest}, registry.manifests[digest]

    def _keep(self, body: bytes) -> Answer:
        registry, (repository, kind, name) = self.server.registry, self._place()
        if kind == "manifests":
            registry.push_manifest(Reference("", repository, name), body)
        elif self.command == "POST":
            return 202, {"Location": f"/v2/{repository}/blobs/uploads/1?state=a"}, b""
        else:
            digest = parse_qs(urlsplit(self.path).query)["digest"][0]
            registry.push(repository, Descriptor("", digest, len(body)), body, lambda _: None)
        return 201, {}, b""

    def _place(self) -> tuple[str, str, str]:
        """Give repository, kind and the rest: /v2/edustream/churn-model/manifests/v2."""
        parts = urlsplit(self.path).path.removeprefix("/v2/").split("/")
        at = next(i for i, part in enumerate(parts) if part in _KINDS)
        return "/".join(parts[:at]), parts[at], "/".join(parts[at + 1 :])


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no setting of the machine into a test, and no file of a test into the tree."""
    for name in ("REGISTRY", "SIGNING_KEY", "TRUSTED_KEY", "CONTRACTS"):
        # set first, so that what a test's .env sets is taken back as well
        monkeypatch.setenv(f"EDUSTREAM_{name}", "")
        monkeypatch.delenv(f"EDUSTREAM_{name}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795377600")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep OpenMP's threads from waiting for each other: the data here is small."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def training() -> Training:
    return training_of(synthetic(1000, 7), shipped(2), "churned", None, "made-up learners")


@pytest.fixture(scope="session")
def trained(training: Training) -> Trained:
    return train(training, seed=7, baseline=shipped(1))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return keygen(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def signed_once(
    trained: Trained, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> SignedRelease:
    """Not to be changed: `signed` is a copy."""
    folder = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOURCE_DATE_EPOCH", "1795377600")
        environment.chdir(folder)
        packaged = package(trained, name="churn-model", version=Version("2.0.0"), out=folder)
    return sign(packaged, keys[0])


@pytest.fixture
def signed(signed_once: SignedRelease, tmp_path: Path) -> SignedRelease:
    folder = tmp_path / "releases" / signed_once.folder.name
    shutil.copytree(signed_once.folder, folder)
    return replace(signed_once, folder=folder)
