"""Owns the conversation with an OCI registry: every byte that it returns was checked.

What a release is made of, and where its layers are kept, is left to `pull` and `cache`;
what this API publishes itself, to `publish`.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests  # noqa: TID251
from requests.adapters import HTTPAdapter  # noqa: TID251
from urllib3.util import Retry  # noqa: TID251

from repo_api.errors import FormatError, IntegrityError, RegistryError, ReleaseNotFoundError
from repo_api.hashing import PIECE, CheckedFile, digest_of
from repo_api.release import DIGEST, INDEX_TYPE, MANIFEST_TYPE, Descriptor, Reference

OnBytes = Callable[[int], None]

_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_TIMEOUTS = (5.0, 60.0)  # seconds: to connect, and between two pieces of an answer
_RETRIES = Retry(
    total=2,
    backoff_factor=0.5,
    status_forcelist=(500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    respect_retry_after_header=False,
)
_RESUMES = 5
_MANIFEST_LIMIT = 4 << 20  # OCI distribution-spec 1.1, pushing manifests

logging.getLogger("urllib3").setLevel(logging.ERROR)  # what it would print is in our own errors


class Registry(Protocol):
    """Where releases are published; nothing it returns or writes is unchecked."""

    def resolve(self, reference: Reference) -> str:
        """Ask which manifest digest a reference stands for now, by one HEAD request."""

    def manifest(self, repository: str, digest: str) -> bytes:
        """Fetch a manifest and check it against its digest."""

    def fetch(self, repository: str, layer: Descriptor, into: Path, on_bytes: OnBytes) -> None:
        """Write a layer to a file and check it against its descriptor."""

    def referrers(self, repository: str, digest: str, artifact_type: str) -> tuple[str, ...]:
        """List the digests of the manifests of a type that say something of a manifest."""

    def push(self, repository: str, layer: Descriptor, content: bytes) -> None:
        """Send a small layer unless it is there."""

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        """Send a manifest whose layers are there, and let the tag stand for it."""


class OciRegistry:
    """A registry that speaks the OCI distribution-spec 1.1 over HTTP."""

    def __init__(self, address: str) -> None:
        """Remember where the registry is; nothing is sent yet.

        Args:
            address: `host:port`; plain HTTP on this machine or with an `http://`
                before it, else HTTPS.
        """
        scheme, _, self.host = address.rstrip("/").rpartition("://")
        self._insecure = scheme == "http" or (not scheme and bool(_LOCAL.fullmatch(self.host)))
        prefix = "http" if self._insecure else "https"
        self.url = f"{prefix}://{self.host}/v2"
        self._session = requests.Session()
        # Some registries answer a client that keeps cookies as they would a browser.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Without it a proxy may compress a layer, and no Range of that can be resumed.
        self._session.headers["Accept-Encoding"] = "identity"
        self._session.mount(f"{prefix}://", _PatientAdapter(max_retries=_RETRIES))
        self._authorization: dict[str, str] = {}

    def resolve(self, reference: Reference) -> str:
        """Ask which manifest digest a reference stands for now, by one HEAD request.

        Raises:
            ReleaseNotFoundError: The registry does not know the reference.
            RegistryError: The registry does not answer, or refuses.
            IntegrityError: It answers a digest with another one.
        """
        with self._open_manifest("HEAD", reference) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
        if not DIGEST.fullmatch(digest):
            raise RegistryError(f"{reference}: expected a sha256 digest, got {digest!r}")
        if DIGEST.fullmatch(reference.tag) and digest != reference.tag:
            raise IntegrityError(str(reference), reference.tag, digest)
        return digest

    def manifest(self, repository: str, digest: str) -> bytes:
        """Fetch a manifest and check it against its digest.

        Raises:
            ReleaseNotFoundError: The registry does not know the digest.
            RegistryError: The registry does not answer, or refuses.
            IntegrityError: The manifest is not what its digest says.
        """
        reference = Reference(self.host, repository, digest)
        with self._open_manifest("GET", reference) as response:
            content = _read(response, str(reference))
        actual = digest_of(content)
        if actual != digest:
            raise IntegrityError(str(reference), digest, actual)
        return content

    def fetch(self, repository: str, layer: Descriptor, into: Path, on_bytes: OnBytes) -> None:
        """Stream a layer to a file and check it against its descriptor.

        What the file holds already is taken for the beginning, and hashed again;
        where the whole turns out wrong, the layer is fetched anew. A transfer that
        breaks off is resumed where it broke if the registry answers Range
        requests, else it starts over; five times at most.

        Args:
            repository: Where the layer was pushed.
            layer: What the bytes must be.
            into: The file to write; it holds nothing that was checked if this raises.
            on_bytes: Called with the size of every piece; with a negative one
                when the transfer starts over.

        Raises:
            RegistryError: The registry does not answer, refuses, or breaks off.
            IntegrityError: The bytes are not what the descriptor says.
        """
        with CheckedFile(into, layer) as checked:
            if begun := checked.size:
                on_bytes(begun)
            try:
                self._complete(repository, layer, checked, on_bytes)
            except IntegrityError:
                if not begun:
                    raise
                on_bytes(-checked.size)
                checked.restart()
                self._complete(repository, layer, checked, on_bytes)

    def referrers(self, repository: str, digest: str, artifact_type: str) -> tuple[str, ...]:
        """List the digests of the manifests of a type that say something of a manifest.

        A registry without the referrers API has them in an index under a tag
        (OCI distribution-spec 1.1, listing referrers, referrers tag schema).

        Raises:
            RegistryError: The registry does not answer, or refuses.
            FormatError: What it answers is no index.
        """
        path = f"referrers/{digest}?artifactType={artifact_type}"
        content, following = self._index(repository, path)
        if content is None:
            content, _ = self._index(repository, f"manifests/{digest.replace(':', '-')}")
        found = []
        while content is not None:
            found += _digests(content, artifact_type, f"{self.host}/{repository}")
            content, following = self._index(repository, following) if following else (None, "")
        return tuple(found)

    def push(self, repository: str, layer: Descriptor, content: bytes) -> None:
        """Send a small layer unless it is there.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        with self._open("HEAD", repository, f"blobs/{layer.digest}", {}) as response:
            if response.ok:
                return
        with self._open("POST", repository, "blobs/uploads/", {}) as response:
            self._check_taken(response, f"{self.host}/{repository}")
            upload = _path(response, response.headers.get("Location", ""))
        separator = "&" if "?" in upload else "?"
        binary = {"Content-Type": "application/octet-stream"}
        path = f"{upload}{separator}digest={layer.digest}"
        with self._open("PUT", repository, path, binary, content) as response:
            self._check_taken(response, f"{self.host}/{repository}: {layer.title}")

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        """Send a manifest whose layers are there, and let the tag stand for it.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        path, headers = f"manifests/{reference.tag}", {"Content-Type": MANIFEST_TYPE}
        with self._open("PUT", reference.repository, path, headers, content) as response:
            self._check_taken(response, str(reference))

    def _index(self, repository: str, path: str) -> tuple[bytes | None, str]:
        """Fetch an index, if there is one, and where it goes on, if it does."""
        with self._open("GET", repository, path, {"Accept": INDEX_TYPE}) as response:
            if response.status_code == requests.codes.not_found:
                return None, ""
            following = response.links.get("next", {}).get("url")
            content = _read(response, f"{self.host}/{repository}/{path}")
            return content, _path(response, following) if following else ""

    def _complete(
        self, repository: str, layer: Descriptor, checked: CheckedFile, on_bytes: OnBytes
    ) -> None:
        """Fetch what is missing of a layer, however often it breaks off, and check the whole."""
        resumes_left = _RESUMES
        while checked.size < layer.size:
            try:
                self._receive(repository, layer, checked, on_bytes)
            except _BrokenOffError:
                if not resumes_left:
                    raise
                resumes_left -= 1
                time.sleep(_RETRIES.backoff_factor)
            else:
                break
        checked.check()

    def _receive(
        self, repository: str, layer: Descriptor, checked: CheckedFile, on_bytes: OnBytes
    ) -> None:
        """Append what is still missing of a layer, or all of it if the registry says so."""
        headers = {"Range": f"bytes={checked.size}-"} if checked.size else {}
        with self._open("GET", repository, f"blobs/{layer.digest}", headers) as response:
            if response.status_code == requests.codes.not_found:
                raise RegistryError(
                    f"{self.host}/{repository}: {layer.title} ({layer.digest}) is missing; "
                    "ask the producer to publish the release again"
                )
            if response.status_code != requests.codes.partial_content:
                on_bytes(-checked.size)
                checked.restart()
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                raise _BrokenOffError(
                    f"{self.host}/{repository}: {layer.title} ends before what was fetched of it"
                )
            for piece in response.iter_content(PIECE):
                checked.write(piece)
                on_bytes(len(piece))

    @contextmanager
    def _open_manifest(self, method: str, reference: Reference) -> Iterator[requests.Response]:
        path = f"manifests/{reference.tag}"
        accept = {"Accept": MANIFEST_TYPE}
        with self._open(method, reference.repository, path, accept) as response:
            if response.status_code == requests.codes.not_found:
                raise ReleaseNotFoundError(str(reference), f"{self.host}/{reference.repository}")
            yield response

    @contextmanager
    def _open(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
    ) -> Iterator[requests.Response]:
        """Send a request, log in if asked to, and keep every foreign exception in here."""
        url = urljoin(f"{self.url}/{repository}/", path)
        try:
            response = self._send(method, url, headers, body)
            if response.status_code == requests.codes.unauthorized:
                response.close()
                self._authorization = self._log_in(response)
                response = self._send(method, url, headers, body)
        except requests.RequestException as error:
            raise RegistryError(
                f"{self.host}: the registry does not answer ({_root_cause(error)}); "
                "start it, or set EDUSTREAM_REGISTRY to the address of another"
            ) from error
        with response:
            self._check_status(response, f"{self.host}/{repository}")
            try:
                yield response
            except requests.RequestException as error:
                raise _BrokenOffError(
                    f"{self.host}/{repository}: the transfer broke off ({_root_cause(error)}); "
                    "try again"
                ) from error

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> requests.Response:
        return self._session.request(
            method,
            url,
            headers={**headers, **self._authorization},
            data=body,
            stream=method == "GET",
        )

    def _log_in(self, challenge: requests.Response) -> dict[str, str]:
        """Answer a challenge with what `oras login` or `docker login` remembered."""
        # Only where it is asked for: a pull starts in two thirds of the time without oras-py.
        import oras.auth  # noqa: TID251
        import oras.container  # noqa: TID251
        import oras.logger  # noqa: TID251

        oras.logger.setup_logger(quiet=True)  # what it would print is in our own errors
        scheme = challenge.headers.get("WWW-Authenticate", "").partition(" ")[0].lower()
        auth = oras.auth.get_auth_backend(
            "basic" if scheme == "basic" else "token", self._session, self._insecure
        )
        # heeded by the command lines, not by oras-py, which complains of a file that is not there
        config = Path(os.environ.get("DOCKER_CONFIG", ""), "config.json")
        configs = [str(config)] if "DOCKER_CONFIG" in os.environ and config.is_file() else None
        try:
            auth.load_configs(oras.container.Container("any", registry=self.host), configs)
            headers, answered = auth.authenticate_request(challenge, {})
        except (AttributeError, ValueError):  # oras knows no login, or cannot read the challenge
            answered = False
        return {"Authorization": headers["Authorization"]} if answered else {}

    def _check_status(self, response: requests.Response, subject: str) -> None:
        """Let an answer pass, a 404 or a 416: what those mean is for the caller to say."""
        status = response.status_code
        if response.ok or status in (
            requests.codes.not_found,
            requests.codes.requested_range_not_satisfiable,
        ):
            return
        if status in (requests.codes.unauthorized, requests.codes.forbidden):
            raise RegistryError(
                f"{subject}: the registry refuses ({status}); log in: oras login {self.host}"
            )
        raise RegistryError(
            f"{subject}: the registry answers {status} {response.reason}; "
            "see its log, and try again"
        )

    def _check_taken(self, response: requests.Response, subject: str) -> None:
        """Let no 404 pass where something is sent."""
        if not response.ok:
            raise RegistryError(f"{subject}: not taken by the registry ({response.status_code})")


class _BrokenOffError(RegistryError):
    """An answer ended before its end; where it broke it can be resumed."""


class _PatientAdapter(HTTPAdapter):
    """Gives every request a time limit, also those of oras that name none."""

    def send(self, *request: Any, **options: Any) -> requests.Response:  # noqa: ANN401  passed on
        return super().send(*request, **{**options, "timeout": _TIMEOUTS})


def _path(response: requests.Response, location: str) -> str:
    """Give the path of a location: behind a proxy a registry may not know its own host."""
    url = urlsplit(urljoin(response.url, location))
    return f"{url.path}?{url.query}" if url.query else url.path


def _read(response: requests.Response, subject: str) -> bytes:
    """Read an answer of the size that a manifest may have."""
    content = bytearray()
    for piece in response.iter_content(PIECE):
        content += piece
        if len(content) > _MANIFEST_LIMIT:
            raise IntegrityError(subject, f"at most {_MANIFEST_LIMIT} bytes", "more")
    return bytes(content)


def _digests(index: bytes, artifact_type: str, subject: str) -> list[str]:
    """Read the digests of the manifests of a type from an index (OCI image-spec 1.1)."""
    try:
        entries = json.loads(index)["manifests"] or []
        found = [e["digest"] for e in entries if e.get("artifactType") == artifact_type]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{subject}: expected an index of referrers, got {error!r}") from error
    if not all(isinstance(digest, str) and DIGEST.fullmatch(digest) for digest in found):
        raise FormatError(f"{subject}: expected sha256 digests of referrers, got {found!r}")
    return found


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
