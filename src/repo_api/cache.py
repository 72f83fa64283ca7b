"""Owns the folder of what was pulled: by digest, shared by processes, whole at any moment.

A file gets its name by a rename, and is hashed before it is trusted: so nothing
but the memory of what was served needs to survive a power cut. Where the bytes
come from is left to `pull`.
"""

import fcntl
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from packaging.version import InvalidVersion, Version

from repo_api.errors import IntegrityError, SetupError
from repo_api.hashing import file_digest
from repo_api.release import Descriptor, Reference, ServedRelease

_LOG = logging.getLogger(__name__)
_POLL = 0.05  # seconds between two looks at what another process writes
_PATIENCE = 20  # looks, after which it is said
_STALE = 86400  # seconds: until then, what a killed process left may be completed


class Cache:
    """A content-addressed folder that any number of processes may use at once.

    `blobs/sha256/<hex>` are manifests and layers; `releases/<hex of the manifest>/`
    are hard links to them, named by title; `served/` remembers what was served.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder, which need not exist yet."""
        self._folder = folder
        self._blobs = folder / "blobs" / "sha256"
        self._partial = folder / "partial"

    def find(self, digest: str) -> Path | None:
        """Find a blob whose bytes are what its digest says; a damaged one counts as absent.

        Raises:
            SetupError: The cache cannot be read.
        """
        path = self._blobs / _hex(digest)
        with self._errors():
            try:
                return path if file_digest(path) == digest else None
            except FileNotFoundError:
                return None

    @contextmanager
    def add(
        self, digest: str, on_wait: Callable[[], object] = lambda: None
    ) -> Iterator[Path | None]:
        """Offer the file to write a blob to; it enters the cache if the block ends well.

        The block has to check the bytes. Whatever a process that was killed has
        written is there already, and a transfer that breaks off leaves its part to the
        next. Processes take turns: None means that another one has brought the blob.

        Args:
            digest: Of the blob.
            on_wait: Called again and again while another process writes it; what it
                raises ends the wait.

        Raises:
            SetupError: The cache cannot be written.
        """
        partial = self._partial / _hex(digest)
        with self._errors(), self._claim(partial, on_wait):
            if self.find(digest):
                partial.unlink()
                yield None
                return
            try:
                yield partial
                self._blobs.mkdir(parents=True, exist_ok=True)
                partial.replace(self._blobs / _hex(digest))
            except BaseException as error:
                # A beginning that is not known to be wrong is for the next.
                if isinstance(error, IntegrityError | OSError) or not partial.stat().st_size:
                    partial.unlink(missing_ok=True)
                raise

    def assemble(self, digest: str, layers: Iterable[Descriptor]) -> Path:
        """Link layers that are in the cache to a folder of files with their titles.

        Each file is put right by itself: a process killed in here leaves nothing
        that the next one would not mend.

        Raises:
            SetupError: The cache cannot be written.
        """
        folder = self._folder / "releases" / _hex(digest)
        blobs = {layer.title: self._blobs / _hex(layer.digest) for layer in layers}
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            for title, blob in blobs.items():
                path = folder / title
                if path.exists() and path.samefile(blob):
                    continue
                with self._scratch() as link:
                    link.unlink()
                    link.hardlink_to(blob)
                    link.replace(path)
            for path in folder.iterdir():
                if path.name not in blobs:
                    path.unlink()
        return folder

    def remember(self, reference: Reference, release: ServedRelease) -> None:
        """Keep in mind that a release was served, through a power cut too.

        Raises:
            SetupError: The cache cannot be written.
        """
        content = {"digest": release.digest, "version": str(release.version)}
        memory = self._memory(reference)
        with self._errors(), self._scratch() as path:
            with path.open("w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            memory.parent.mkdir(parents=True, exist_ok=True)
            path.replace(memory)

    def last_served(self, reference: Reference) -> ServedRelease | None:
        """Recall what was served last under a reference, if anything was.

        Raises:
            SetupError: The memory cannot be read.
        """
        memory = self._memory(reference)
        with self._errors():
            try:
                content = json.loads(memory.read_bytes())
                return ServedRelease(str(content["digest"]), Version(content["version"]))
            except FileNotFoundError:
                return None
            except (ValueError, KeyError, TypeError, InvalidVersion) as error:
                raise SetupError(
                    f"{memory}: expected what was served last, got {error!r}; "
                    "delete it if any release may be served"
                ) from error

    def sweep(self) -> None:
        """Delete what killed processes left behind.

        Raises:
            SetupError: The cache cannot be written.
        """
        with self._errors(), suppress(FileNotFoundError):
            for path in self._partial.iterdir():
                with suppress(FileNotFoundError):
                    # Not the time of its content: a link to an old blob has an old one.
                    if path.stat().st_ctime < time.time() - _STALE:
                        with path.open("ab") as file:
                            if _lock(file):
                                path.unlink()

    def _memory(self, reference: Reference) -> Path:
        return self._folder / "served" / f"{quote(str(reference), safe='')}.json"

    @contextmanager
    def _claim(self, path: Path, on_wait: Callable[[], object]) -> Iterator[None]:
        """Hold a file alone, made if need be; it is let go with the process at the latest."""
        path.parent.mkdir(parents=True, exist_ok=True)
        waited = 0
        while True:
            with path.open("ab") as file:
                # Whoever held it before may have moved or deleted it in the meantime.
                if _lock(file) and _names(path, file.fileno()):
                    yield
                    return
            on_wait()
            time.sleep(_POLL)
            waited += 1
            if waited == _PATIENCE:
                _LOG.warning("another process writes to %s; waiting for it", self._folder)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """Offer an empty file of its own name, and delete what is left of it."""
        self._partial.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._partial)
        os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say that it is the cache which cannot be used, and what to do about it."""
        try:
            yield
        except OSError as error:
            raise SetupError(
                f"{self._folder}: the cache cannot be used ({error.strerror or error}); make room "
                "in it, or set EDUSTREAM_CACHE to another folder"
            ) from error


def _lock(file: BinaryIO) -> bool:
    """Take an open file for oneself, if no other has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _names(path: Path, descriptor: int) -> bool:
    """Tell whether a path is that of an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
