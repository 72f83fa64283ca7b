"""Owns the first step: a reference becomes a folder whose files are what the manifest says.

Who made them is left to `verify`.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from repo_api.cache import Cache
from repo_api.errors import RegistryError, ReleaseNotFoundError
from repo_api.registry import OnBytes, Registry
from repo_api.release import Descriptor, Manifest, PulledRelease, Reference

Progress = Callable[[Descriptor], OnBytes]
"""Called for every layer that is fetched; what it returns is called with each piece's size."""

_LOG = logging.getLogger(__name__)
_AT_ONCE = 4


def pull(
    registry: Registry, cache: Cache, reference: Reference, progress: Progress
) -> PulledRelease:
    """Bring a release into the cache, and fetch only what is not there yet.

    A registry that does not know the release is believed. For one that cannot
    deliver, the release that was served last under this reference stands in.

    Args:
        registry: Where the release was published.
        cache: What was pulled before.
        reference: The release, by tag or by manifest digest.
        progress: Is told which layers are fetched, and how far they are.

    Raises:
        RegistryError: The registry could not deliver, and the cache cannot stand in.
        IntegrityError: The manifest or a layer is not what its digest says.
        FormatError: The manifest is none of a release.
        SetupError: The cache cannot be used.
    """
    cache.sweep()
    try:
        digest = registry.resolve(reference)
        folder = _bring(registry, cache, reference.repository, digest, progress)
        return PulledRelease(folder, reference, digest)
    except ReleaseNotFoundError:
        raise
    except RegistryError as error:
        served = cache.last_served(reference)
        if served is None:
            raise
        _LOG.warning("%s; version %s from the cache stands in", error, served.version)
    folder = _bring(registry, cache, reference.repository, served.digest, progress)
    return PulledRelease(folder, reference, served.digest)


def _bring(
    registry: Registry, cache: Cache, repository: str, digest: str, progress: Progress
) -> Path:
    """Make a release whole in the cache; the registry is asked for nothing that is there."""
    manifest = Manifest.from_json(_read_manifest(registry, cache, repository, digest))
    stopped = threading.Event()

    def bring_layer(layer: Descriptor) -> None:
        if cache.find(layer.digest):
            return
        with cache.add(layer.digest, on_wait=check) as path:
            if path:
                fetch(layer, path)

    def check() -> None:
        if stopped.is_set():
            raise _StoppedError

    def fetch(layer: Descriptor, into: Path) -> None:
        advance = progress(layer)

        def on_bytes(count: int) -> None:
            check()
            advance(count)

        registry.fetch(repository, layer, into, on_bytes)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            # Small ones first: a wrong one among them is found before the long wait.
            list(pool.map(bring_layer, sorted(manifest.layers, key=lambda layer: layer.size)))
        except BaseException:
            stopped.set()
            raise
    return cache.assemble(digest, manifest.layers)


def _read_manifest(registry: Registry, cache: Cache, repository: str, digest: str) -> bytes:
    path = cache.find(digest)
    if path:
        return path.read_bytes()
    content = registry.manifest(repository, digest)
    with cache.add(digest) as into:
        if into:
            into.write_bytes(content)
    return content


class _StoppedError(Exception):
    """Another layer failed, or the user did not want to wait."""
