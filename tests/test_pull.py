"""Tests of `pull` against a registry that can corrupt, drop, truncate and swap."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import CHANNEL, MODEL_FILE, MakeRelease, MemoryRegistry
from repo_api.cache import Cache
from repo_api.errors import FormatError, IntegrityError, RegistryError, ReleaseNotFoundError
from repo_api.hashing import digest_of
from repo_api.pull import pull
from repo_api.registry import OnBytes
from repo_api.release import Descriptor, PulledRelease, Reference, ServedRelease


def silent(_layer: Descriptor) -> OnBytes:
    return lambda _count: None


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(make_release: MakeRelease) -> Path:
    return make_release()


@pytest.fixture
def digest(registry: MemoryRegistry, folder: Path) -> str:
    return registry.publish(folder, "v2", "v2.0.0")


def served(cache: Cache, digest: str) -> None:
    cache.remember(CHANNEL, ServedRelease(digest, Version("2.0.0")))


def test_pull_brings_the_files_that_were_released(
    registry: MemoryRegistry, cache: Cache, folder: Path, digest: str
) -> None:
    pulled = pull(registry, cache, CHANNEL, silent)

    assert pulled == PulledRelease(pulled.folder, CHANNEL, digest)
    assert files(pulled.folder) == files(folder)


@pytest.mark.usefixtures("digest")
def test_pull_fetches_small_layers_first(registry: MemoryRegistry, cache: Cache) -> None:
    pull(registry, cache, CHANNEL, silent)

    fetched = [request for request in registry.requests[2:] if request.startswith("GET")]
    # four at a time, so that only the last four may come in any order
    assert f"GET {MODEL_FILE}" in fetched[-4:]


@pytest.mark.usefixtures("digest")
def test_pull_of_a_known_digest_costs_one_request(registry: MemoryRegistry, cache: Cache) -> None:
    pull(registry, cache, CHANNEL, silent)
    registry.requests.clear()

    pull(registry, cache, CHANNEL, silent)

    assert registry.requests == ["HEAD v2"]


@pytest.mark.usefixtures("digest")
def test_pull_fetches_only_the_layers_that_changed(
    registry: MemoryRegistry, cache: Cache, make_release: MakeRelease
) -> None:
    pull(registry, cache, CHANNEL, silent)
    registry.publish(make_release(version="2.0.1"), "v2")
    registry.requests.clear()

    pull(registry, cache, CHANNEL, silent)

    assert f"GET {MODEL_FILE}" not in registry.requests
    assert "GET release.json" in registry.requests


def test_pull_reports_every_byte_that_it_fetches(
    registry: MemoryRegistry, cache: Cache, folder: Path, digest: str
) -> None:
    reported: dict[str, int] = {}

    def progress(layer: Descriptor) -> OnBytes:
        return lambda count: reported.update({layer.title: count})

    pull(registry, cache, CHANNEL, progress)

    assert digest
    assert reported == {name: len(content) for name, content in files(folder).items()}


def corrupt(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def truncate(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("harm", [corrupt, truncate])
def test_pull_refuses_a_layer_that_is_not_what_its_descriptor_says(
    registry: MemoryRegistry, cache: Cache, digest: str, harm: Callable[[bytes], bytes]
) -> None:
    layer = registry.layer(digest, MODEL_FILE)
    registry.blobs[layer.digest] = harm(registry.blobs[layer.digest])

    with pytest.raises(IntegrityError, match=MODEL_FILE):
        pull(registry, cache, CHANNEL, silent)
    assert cache.find(layer.digest) is None


def test_pull_refuses_swapped_layers(registry: MemoryRegistry, cache: Cache, digest: str) -> None:
    one, other = registry.layer(digest, MODEL_FILE), registry.layer(digest, "release.json")
    blobs = registry.blobs
    blobs[one.digest], blobs[other.digest] = blobs[other.digest], blobs[one.digest]

    with pytest.raises(IntegrityError):
        pull(registry, cache, CHANNEL, silent)


def test_pull_after_a_refusal_succeeds_with_the_right_bytes(
    registry: MemoryRegistry, cache: Cache, folder: Path, digest: str
) -> None:
    layer = registry.layer(digest, MODEL_FILE)
    right = registry.blobs[layer.digest]
    registry.blobs[layer.digest] = corrupt(right)
    with pytest.raises(IntegrityError):
        pull(registry, cache, CHANNEL, silent)
    registry.blobs[layer.digest] = right

    assert files(pull(registry, cache, CHANNEL, silent).folder) == files(folder)


def test_pull_refuses_a_manifest_that_is_none(registry: MemoryRegistry, cache: Cache) -> None:
    registry.manifests[digest_of(b"[]")] = b"[]"
    registry.tags["v2"] = digest_of(b"[]")

    with pytest.raises(FormatError, match="expected titled layers"):
        pull(registry, cache, CHANNEL, silent)


@pytest.mark.parametrize("title", ["../escaped", "a/b", ".hidden", ""])
def test_pull_refuses_a_title_that_is_no_plain_file_name(
    registry: MemoryRegistry, cache: Cache, digest: str, title: str
) -> None:
    manifest = registry.manifests[digest].replace(MODEL_FILE.encode(), title.encode())
    registry.manifests[digest_of(manifest)] = manifest
    registry.tags["v2"] = digest_of(manifest)

    with pytest.raises(FormatError, match="expected a plain file name"):
        pull(registry, cache, CHANNEL, silent)


def test_pull_notices_a_damaged_cache_file_and_fetches_it_again(
    registry: MemoryRegistry, cache: Cache, folder: Path, digest: str
) -> None:
    pulled = pull(registry, cache, CHANNEL, silent)
    (pulled.folder / MODEL_FILE).write_bytes(b"damaged")
    registry.requests.clear()

    pull(registry, cache, CHANNEL, silent)

    assert digest
    assert registry.requests == ["HEAD v2", f"GET {MODEL_FILE}"]
    assert files(pulled.folder) == files(folder)


def test_pull_refuses_what_is_not_released_whatever_the_cache_holds(
    registry: MemoryRegistry, cache: Cache, digest: str
) -> None:
    pull(registry, cache, CHANNEL, silent)
    served(cache, digest)
    registry.tags.clear()

    with pytest.raises(ReleaseNotFoundError, match="not released"):
        pull(registry, cache, CHANNEL, silent)


def test_pull_lets_the_cache_stand_in_for_an_unreachable_registry(
    registry: MemoryRegistry,
    cache: Cache,
    digest: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = pull(registry, cache, CHANNEL, silent)
    served(cache, digest)
    registry.reachable = False

    assert pull(registry, cache, CHANNEL, silent) == before
    assert caplog.record_tuples == [
        (
            "repo_api.pull",
            logging.WARNING,
            "registry.test: the registry does not answer; version 2.0.0 from the cache stands in",
        )
    ]


@pytest.mark.usefixtures("digest")
def test_pull_lets_nothing_stand_in_that_was_never_served(
    registry: MemoryRegistry, cache: Cache
) -> None:
    pull(registry, cache, CHANNEL, silent)
    registry.reachable = False

    with pytest.raises(RegistryError, match="does not answer"):
        pull(registry, cache, CHANNEL, silent)


def test_pull_lets_no_damaged_cache_stand_in(
    registry: MemoryRegistry, cache: Cache, digest: str
) -> None:
    pulled = pull(registry, cache, CHANNEL, silent)
    served(cache, digest)
    (pulled.folder / MODEL_FILE).write_bytes(b"damaged")
    registry.reachable = False

    with pytest.raises(RegistryError, match="does not answer"):
        pull(registry, cache, CHANNEL, silent)


def test_pull_falls_back_if_the_registry_has_lost_a_layer_of_the_new_release(
    registry: MemoryRegistry, cache: Cache, digest: str, make_release: MakeRelease
) -> None:
    pull(registry, cache, CHANNEL, silent)
    served(cache, digest)
    new = registry.publish(make_release(version="2.0.1"), "v2")
    del registry.blobs[registry.layer(new, "release.json").digest]

    assert pull(registry, cache, CHANNEL, silent).digest == digest


@pytest.mark.usefixtures("digest")
def test_pulls_at_the_same_time_leave_a_whole_cache(
    registry: MemoryRegistry, cache: Cache, folder: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        pulls = [pool.submit(pull, registry, cache, CHANNEL, silent) for _ in range(16)]

    assert all(files(one.result().folder) == files(folder) for one in pulls)


def test_pull_stops_the_other_transfers_when_one_fails(cache: Cache) -> None:
    registry = _TwoLayers()

    with pytest.raises(IntegrityError, match="small"):
        pull(registry, cache, CHANNEL, silent)
    assert registry.stopped.is_set()


class _TwoLayers(MemoryRegistry):
    """Fails one transfer while another one goes on for ever, unless it is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = threading.Event()
        self.stopped = threading.Event()

    def resolve(self, _: Reference) -> str:
        return digest_of(self.manifest("", ""))

    def manifest(self, _: str, __: str) -> bytes:
        layer = (
            '{"mediaType": "a/b", "digest": "sha256:%s", "size": %d, '
            '"annotations": {"org.opencontainers.image.title": "%s"}}'
        )
        large, small = layer % ("a" * 64, 2, "large"), layer % ("b" * 64, 1, "small")
        return f'{{"layers": [{large}, {small}]}}'.encode()

    def fetch(self, _: str, layer: Descriptor, __: Path, on_bytes: OnBytes) -> None:
        if layer.title == "small":
            self.under_way.wait(10)
            raise IntegrityError("small", "one", "another")
        self.under_way.set()
        try:
            while True:
                on_bytes(0)
        finally:
            self.stopped.set()
