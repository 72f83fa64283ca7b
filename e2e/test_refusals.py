"""What is refused between the two programs: exit 1, one line, nothing half-written."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import (
    MODEL,
    LocalRegistry,
    Team,
    copy_registry_config,
    damage,
    flip_a_bit,
    free_port,
    golden_examples,
    revise,
    serving,
)

TRIES = 3
SMALL_DISK = "size=128k"  # room for all of a release but its model


def assert_whole(cache: Path) -> None:
    """Check that a cache holds whole blobs and nothing that was served."""
    assert not list(cache.glob("served/*"))
    for blob in cache.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def assert_unpublished(registry: LocalRegistry) -> None:
    """Check that no tag of the model was set."""
    assert registry.ask("GET", "tags/list").json().get("tags") is None


def truncate(content: bytes) -> bytes:
    """Lose the end."""
    return content[: len(content) // 2]


@pytest.fixture
def grumbling() -> Iterator[tuple[str, list[str]]]:
    """Run a server that answers 503 to everything: its address, and what it was asked."""
    asked = []

    class Grumbling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

        do_HEAD = do_GET  # noqa: N815  http.server's name

        def log_message(self, *_: object) -> None:
            """Keep the terminal quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Grumbling) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"localhost:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk that is too small for a release."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def full_registry(small_disk: Path, tmp_path: Path) -> Iterator[LocalRegistry]:
    """Run a registry on the small disk."""
    full = LocalRegistry(tmp_path / "full", free_port())
    copy_registry_config(full.checkout)
    full.storage.parent.mkdir(parents=True)
    full.storage.symlink_to(small_disk)
    try:
        full.up()
        yield full
    finally:
        full.down()


def test_a_registry_that_is_down(ml: Team, registry: LocalRegistry, release: Path) -> None:
    registry.down()

    line = ml.refused("publish", release)

    assert f"{registry.address}: the registry does not answer" in line


def test_a_registry_that_answers_5xx_is_tried_three_times(
    ml: Team, api: Team, grumbling: tuple[str, list[str]], release: Path, cache: Path
) -> None:
    address, asked = grumbling

    published = ml.refused("publish", release, EDUSTREAM_REGISTRY=address)
    asked_by_ml = [*asked]
    asked.clear()
    pulled = api.refused("pull", EDUSTREAM_REGISTRY=address)

    assert "the registry answers 503" in published
    assert "the registry answers 503" in pulled
    assert asked_by_ml == asked_by_ml[:1] * TRIES
    assert asked == [f"HEAD /v2/{MODEL}/manifests/v2"] * TRIES
    assert_whole(cache)


def test_a_registry_whose_disk_is_full(
    ml: Team, full_registry: LocalRegistry, release: Path
) -> None:
    line = ml.refused("publish", release, EDUSTREAM_REGISTRY=full_registry.address)

    assert f"{full_registry.address}: the registry answers 5" in line
    assert_unpublished(full_registry)


def test_a_cache_whose_disk_is_full(ml: Team, api: Team, small_disk: Path, release: Path) -> None:
    ml.must("publish", release)

    line = api.refused("pull", EDUSTREAM_CACHE=str(small_disk))

    assert "No space left on device" in line
    assert_whole(small_disk)


def test_a_version_that_is_released_with_other_bytes(
    ml: Team, registry: LocalRegistry, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)
    before = registry.digest("v2.0.0")
    changed = revise(release, tmp_path / "changed", threshold=0.5)
    ml.must("sign", changed)

    line = ml.refused("publish", changed)

    assert f"{MODEL}:v2.0.0: already released as {before}" in line
    assert "publish with --version 2.0.1" in line
    assert registry.digest("v2.0.0") == registry.digest("v2") == before


def test_a_release_that_was_never_signed(
    ml: Team, registry: LocalRegistry, release: Path, tmp_path: Path
) -> None:
    unsigned = revise(release, tmp_path / "unsigned")
    (unsigned / "model.sig").unlink()

    line = ml.refused("publish", unsigned)

    assert "model.sig" in line
    assert_unpublished(registry)


@pytest.mark.parametrize(
    ("change", "got"),
    [(flip_a_bit, ", got sha256:"), (truncate, " bytes, got ")],
    ids=["a flipped bit", "a truncated layer"],
)
@pytest.mark.parametrize("title", ["churn_model_v2.pkl", "release.json"])
def test_a_layer_that_is_not_what_its_digest_says(
    ml: Team,
    api: Team,
    registry: LocalRegistry,
    release: Path,
    cache: Path,
    title: str,
    change: Callable[[bytes], bytes],
    got: str,
) -> None:
    ml.must("publish", release)
    damage(registry, registry.layers("v2")[title], change)

    line = api.refused("pull")

    assert f"{title}: expected " in line
    assert got in line
    assert_whole(cache)
    assert not list(cache.glob("releases/*"))


def test_a_manifest_that_is_not_what_its_digest_says(
    ml: Team, api: Team, registry: LocalRegistry, release: Path, cache: Path
) -> None:
    ml.must("publish", release)
    digest = registry.digest("v2")
    damage(registry, digest, lambda manifest: manifest.replace(b'"2.0.0"', b'"2.0.1"'))

    line = api.refused("pull")

    assert f"{MODEL}@{digest}: expected {digest}, got sha256:" in line
    assert_whole(cache)
    assert not list(cache.glob("releases/*"))


def test_a_release_that_somebody_took_the_signature_from(
    ml: Team, api: Team, registry: LocalRegistry, release: Path, cache: Path
) -> None:
    ml.must("publish", release)
    manifest = registry.manifest("v2.0.0")
    signature = registry.layers("v2.0.0")["model.sig"]
    manifest["layers"] = [each for each in manifest["layers"] if each["digest"] != signature]
    registry.put_manifest("v2", manifest)

    line = api.refused("serve", "--port", "0")

    assert "expected a signature, got no model.sig" in line
    assert_whole(cache)


def test_a_signature_by_another_key(
    ml: Team, api: Team, keys: Path, release: Path, tmp_path: Path, cache: Path
) -> None:
    signed = revise(release, tmp_path / "signed")
    ml.must("sign", signed, EDUSTREAM_SIGNING_KEY=str(keys / "stranger" / "signing.pem"))
    ml.must("publish", signed)

    line = api.refused("serve", "--port", "0")

    assert f"{MODEL}:v2: expected a signature by {keys / 'repo-ml' / 'signing.pub'}" in line
    assert_whole(cache)


@pytest.mark.parametrize("tag", ["v2.0.1", "v3"])
def test_a_signed_release_under_another_tag(
    ml: Team, api: Team, registry: LocalRegistry, release: Path, cache: Path, tag: str
) -> None:
    ml.must("publish", release)
    registry.put_manifest(tag, registry.manifest("v2.0.0"))

    line = api.refused("verify", f"{MODEL}:{tag}")

    assert f"expected churn-model {tag}, got the signed release churn-model 2.0.0" in line
    assert_whole(cache)


def test_an_older_release_under_the_channel(
    ml: Team, api: Team, registry: LocalRegistry, release: Path, tmp_path: Path
) -> None:
    newer = revise(release, tmp_path / "newer", version="2.0.1")
    ml.must("sign", newer)
    for folder in (release, newer):
        ml.must("publish", folder)
    with serving(api):
        pass
    registry.put_manifest("v2", registry.manifest("v2.0.0"))

    line = api.refused("serve", "--port", "0")

    assert "expected version 2.0.1, which was served before, or a newer one, got 2.0.0" in line
    with serving(api, "--allow-downgrade") as service:
        assert service.get("/model")["version"] == "2.0.0"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signed_file_that_does_not_unpickle(
    ml: Team, api: Team, release: Path, tmp_path: Path, cache: Path, workers: str
) -> None:
    broken = revise(release, tmp_path / "broken")
    (broken / "churn_model_v2.pkl").write_bytes(b"no pickle")
    ml.must("sign", broken)
    ml.must("publish", broken)

    line = api.refused("serve", "--port", "0", "--workers", workers)

    assert "churn_model_v2.pkl: does not unpickle" in line
    assert_whole(cache)


def test_a_model_that_does_not_keep_its_own_promise(
    ml: Team, api: Team, release: Path, tmp_path: Path, cache: Path
) -> None:
    record, _ = golden_examples(release)[0]
    example = {"input": record, "probability": 0.123456789}
    broken = revise(release, tmp_path / "broken", golden_examples=[example])
    ml.must("sign", broken)
    ml.must("publish", broken)

    line = api.refused("predict")

    assert "golden example 1: expected 0.123456789, got " in line
    assert_whole(cache)


def test_a_model_by_another_scikit_learn(
    ml: Team, api: Team, release: Path, tmp_path: Path, cache: Path
) -> None:
    older = revise(release, tmp_path / "older", libraries={"scikit-learn": "0.24.2"})
    ml.must("sign", older)
    ml.must("publish", older)

    line = api.refused("verify")

    assert "made by scikit-learn 0.24.2, installed here is " in line
    assert_whole(cache)


def test_a_port_that_is_taken(ml: Team, api: Team, release: Path, cache: Path) -> None:
    ml.must("publish", release)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = api.refused("serve", "--port", str(port))

    assert f"127.0.0.1:{port}: cannot listen: Address already in use" in line
    assert not cache.exists()
