"""Owns the conversation with an OCI registry: what is read was checked, what is sent is streamed.

What a release is made of, and which versions may follow which, is left to `publish`.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import urljoin

import oras.auth  # noqa: TID251
import oras.container  # noqa: TID251
import oras.logger  # noqa: TID251
import oras.provider  # noqa: TID251
import requests  # noqa: TID251
from requests.adapters import HTTPAdapter  # noqa: TID251
from urllib3.util import Retry

from repo_ml.errors import IntegrityError, RegistryError
from repo_ml.release import MANIFEST_TYPE, Descriptor, Reference, describe, plain, to_json

OnBytes = Callable[[int], object]

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
_TIMEOUTS = (5.0, 300.0)  # seconds: to connect; for an answer, as a registry hashes what it got
_PIECE = 1 << 20
_RETRIES = Retry(
    total=2,
    backoff_factor=0.5,
    status_forcelist=(500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    respect_retry_after_header=False,
)

# An upload that broke off cannot be sent to the same address: each try begins a new one.
_WAITS = (0.5, 1.0, None)  # seconds after each try

# What these two would print is in our own errors.
oras.logger.setup_logger(quiet=True)
logging.getLogger("urllib3").setLevel(logging.ERROR)


class Registry(Protocol):
    """Where releases are published."""

    def resolve(self, reference: Reference) -> str | None:
        """Ask which manifest digest a reference stands for; None if it is unknown."""

    def tags(self, repository: str) -> tuple[str, ...]:
        """List the tags of a repository; none if it is unknown."""

    def manifest(self, repository: str, digest: str) -> bytes:
        """Fetch a manifest and check it against its digest."""

    def read(self, repository: str, layer: Descriptor) -> bytes:
        """Fetch a small layer and check it against its descriptor."""

    def push(
        self, repository: str, layer: Descriptor, source: Path | bytes, on_bytes: OnBytes
    ) -> None:
        """Send some content, unless the registry has it."""

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        """Send a manifest whose layers are there, and let the tag stand for it."""

    def push_referrer(
        self, repository: str, subject: str, manifest: bytes, artifact_type: str
    ) -> None:
        """Send a manifest that says something of another one, and let it be found."""

    def referrers(self, repository: str, subject: str, artifact_type: str) -> tuple[str, ...]:
        """List the digests of the manifests that say something of another one."""


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
        client = oras.provider.Registry(self.host, insecure=self._insecure)
        self._url = f"{client.prefix}://{self.host}/v2"
        self._session: requests.Session = client.session
        self._session.mount(f"{client.prefix}://", _PatientAdapter(max_retries=_RETRIES))
        self._uploads = requests.Session()
        self._uploads.mount(f"{client.prefix}://", _PatientAdapter(max_retries=0))
        self._authorization: dict[str, str] = {}

    def resolve(self, reference: Reference) -> str | None:
        """Ask which manifest digest a reference stands for; None if it is unknown.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        url = f"{self._url}/{reference.repository}/manifests/{reference.tag}"
        response = self._send("HEAD", url, {"Accept": MANIFEST_TYPE})
        if response.status_code == requests.codes.not_found:
            return None
        digest = response.headers.get("Docker-Content-Digest")
        if digest is None:
            raise self._no_registry()
        return digest

    def tags(self, repository: str) -> tuple[str, ...]:
        """List the tags of a repository; none if it is unknown.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        url, found = f"{self._url}/{repository}/tags/list", list[str]()
        while url:
            response = self._send("GET", url)
            if response.status_code == requests.codes.not_found:
                break
            try:
                found.extend(response.json()["tags"] or [])
            except (ValueError, KeyError, TypeError) as error:
                raise self._no_registry() from error
            following = response.links.get("next", {}).get("url")
            url = urljoin(url, following) if following else ""
        return tuple(found)

    def manifest(self, repository: str, digest: str) -> bytes:
        """Fetch a manifest and check it against its digest.

        Raises:
            RegistryError: The registry does not answer, refuses, or lacks it.
            IntegrityError: The manifest is not what its digest says.
        """
        url = f"{self._url}/{repository}/manifests/{digest}"
        return self._checked(url, {"Accept": MANIFEST_TYPE}, digest)

    def read(self, repository: str, layer: Descriptor) -> bytes:
        """Fetch a small layer and check it against its descriptor.

        Raises:
            RegistryError: The registry does not answer, refuses, or lacks it.
            IntegrityError: The bytes are not what the descriptor says.
        """
        return self._checked(f"{self._url}/{repository}/blobs/{layer.digest}", {}, layer.digest)

    def push(
        self, repository: str, layer: Descriptor, source: Path | bytes, on_bytes: OnBytes
    ) -> None:
        """Send some content, a file straight from disk, unless the registry has it.

        Args:
            repository: Where it goes.
            layer: What it is; the registry refuses other bytes.
            source: The file, or the content itself.
            on_bytes: Called with the size of every piece that was sent, with a
                negative one when it is sent anew.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        blobs = f"{self._url}/{repository}/blobs"
        if self._send("HEAD", f"{blobs}/{layer.digest}").ok:
            on_bytes(layer.size)
            return
        headers = {"Content-Type": "application/octet-stream"}
        with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
            body = _CountedFile(file, layer.size, on_bytes)
            for wait in _WAITS:
                started = self._send("POST", f"{blobs}/uploads/")
                upload = urljoin(started.url, started.headers.get("Location", ""))
                separator = "&" if "?" in upload else "?"
                try:
                    self._send("PUT", f"{upload}{separator}digest={layer.digest}", headers, body)
                    break
                except _PassingError:
                    if wait is None:
                        raise
                    time.sleep(wait)

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        """Send a manifest whose layers are there, and let the tag stand for it.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        url = f"{self._url}/{reference.repository}/manifests/{reference.tag}"
        self._send("PUT", url, {"Content-Type": MANIFEST_TYPE}, content)

    def push_referrer(
        self, repository: str, subject: str, manifest: bytes, artifact_type: str
    ) -> None:
        """Send a manifest that says something of another one, and let it be found.

        A registry without the referrers API does not answer with an OCI-Subject;
        there the index of referrers is kept under a tag (distribution-spec 1.1,
        referrers tag schema).

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        manifests = f"{self._url}/{repository}/manifests"
        described = describe(MANIFEST_TYPE, manifest)
        headers = {"Content-Type": MANIFEST_TYPE}
        answer = self._send("PUT", f"{manifests}/{described.digest}", headers, manifest)
        if "OCI-Subject" in answer.headers:
            return
        listed = [
            entry
            for entry in self._index(repository, subject)
            if entry["digest"] != described.digest
        ]
        listed.append({**plain(described), "artifactType": artifact_type})
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": listed}
        url = f"{manifests}/{_referrers_tag(subject)}"
        self._send("PUT", url, {"Content-Type": _INDEX_TYPE}, to_json(index))

    def referrers(self, repository: str, subject: str, artifact_type: str) -> tuple[str, ...]:
        """List the digests of the manifests that say something of another one.

        Raises:
            RegistryError: The registry does not answer, or refuses.
        """
        return tuple(
            entry["digest"]
            for entry in self._index(repository, subject)
            if entry.get("artifactType") == artifact_type
        )

    def _index(self, repository: str, subject: str) -> list[dict[str, Any]]:
        for place in (f"referrers/{subject}", f"manifests/{_referrers_tag(subject)}"):
            answer = self._send("GET", f"{self._url}/{repository}/{place}", {"Accept": _INDEX_TYPE})
            if answer.ok:
                entries: list[dict[str, Any]] = answer.json()["manifests"] or []
                return entries
        return []

    def _checked(self, url: str, headers: Mapping[str, str], digest: str) -> bytes:
        response = self._send("GET", url, headers)
        if response.status_code == requests.codes.not_found:
            raise RegistryError(f"{url}: missing in the registry; look at its storage")
        actual = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
        if actual != digest:
            raise IntegrityError(url, digest, actual)
        return response.content

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: "bytes | _CountedFile | None" = None,
    ) -> requests.Response:
        """Send a request, log in if asked to, and keep every foreign exception in here."""
        try:
            response = self._request(method, url, headers, body)
            if response.status_code == requests.codes.unauthorized:
                self._authorization = self._log_in(response)
                response = self._request(method, url, headers, body)
        except requests.RequestException as error:
            raise _PassingError(
                f"{self.host}: the registry does not answer ({_root_cause(error)}); "
                "start it, or set EDUSTREAM_REGISTRY to the address of another"
            ) from error
        self._check_status(method, response)
        return response

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: "bytes | _CountedFile | None",
    ) -> requests.Response:
        session = self._session
        if isinstance(body, _CountedFile):
            session = self._uploads
            body.seek(0)
        return session.request(
            method, url, headers={**(headers or {}), **self._authorization}, data=body
        )

    def _log_in(self, challenge: requests.Response) -> dict[str, str]:
        """Answer a challenge with what `oras login` or `docker login` remembered."""
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

    def _no_registry(self) -> RegistryError:
        return RegistryError(
            f"{self.host}: something answers that is no OCI registry; "
            "set EDUSTREAM_REGISTRY to the address of one"
        )

    def _check_status(self, method: str, response: requests.Response) -> None:
        """Let an answer pass, or a 404 to a question: what that means is for the caller to say."""
        status = response.status_code
        if response.ok or (status == requests.codes.not_found and method in ("GET", "HEAD")):
            return
        if status in (requests.codes.unauthorized, requests.codes.forbidden):
            raise RegistryError(
                f"{self.host}: the registry refuses ({status}); log in: oras login {self.host}"
            )
        said = re.sub(r"\s+", " ", response.text)[:200]
        kind = _PassingError if status in _RETRIES.status_forcelist else RegistryError
        raise kind(
            f"{self.host}: the registry answers {status} {response.reason} {said}; "
            "see its log and its disk, and try again"
        )


class _PassingError(RegistryError):
    """The registry did not answer, or was overloaded or full: another try may succeed."""


class _CountedFile:
    """A file to send, which tells how far it is and can be sent anew."""

    def __init__(self, file: BinaryIO, size: int, on_bytes: OnBytes) -> None:
        self._file = file
        self._size = size
        self._on_bytes = on_bytes

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int) -> int:
        self._on_bytes(offset - self._file.tell())
        return self._file.seek(offset)

    def read(self, _: int = -1) -> bytes:
        """Give the next piece, larger than the 16 KiB that http.client asks for."""
        piece = self._file.read(_PIECE)
        self._on_bytes(len(piece))
        return piece


class _PatientAdapter(HTTPAdapter):
    """Gives every request a time limit, also those of oras that name none."""

    def send(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401  # whatever requests hands over
        return super().send(*arguments, **{**options, "timeout": _TIMEOUTS})


def _referrers_tag(subject: str) -> str:
    return subject.replace(":", "-")


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
