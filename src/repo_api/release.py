"""Owns the types that pass between the verbs, and their formats; does no input or output."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from packaging.version import Version

from repo_api.errors import FormatError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
DESCRIPTION_FILE = "release.json"
SCHEMA_FILE = "input_schema.json"
SIGNATURE_FILE = "model.sig"

_UNREADABLE = (KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What hostile JSON makes its reader raise."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# OCI distribution-spec 1.1, pulling manifests: <name>, and <reference> as a tag
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A release by tag or by manifest digest (OCI distribution-spec 1.1, pulling manifests)."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, registry: str, text: str) -> Self:
        """Read `repository:tag` or `repository@sha256:digest`.

        Raises:
            ValueError: It is neither.
        """
        separator = "@" if "@" in text else ":"
        repository, _, tag = text.partition(separator)
        if not _REPOSITORY.fullmatch(repository):
            raise ValueError(f"expected repository:tag or repository@sha256:digest, got {text!r}")
        if not (DIGEST if separator == "@" else _TAG).fullmatch(tag):
            raise ValueError(f"expected a tag or a sha256 digest, got {tag!r}")
        return cls(registry, repository, tag)

    def __str__(self) -> str:
        """Write it the way that every OCI tool reads it."""
        separator = "@" if DIGEST.fullmatch(self.tag) else ":"
        return f"{self.registry}/{self.repository}{separator}{self.tag}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A layer as its manifest describes it (OCI image-spec 1.1, descriptor)."""

    media_type: str
    digest: str
    size: int
    title: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The layers of a release (OCI image-spec 1.1, image manifest)."""

    layers: tuple[Descriptor, ...]

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a manifest; a title that is not a plain file name is refused.

        Raises:
            FormatError: It is no image manifest of titled layers.
        """
        try:
            layers = tuple(
                Descriptor(
                    media_type=str(layer["mediaType"]),
                    digest=str(layer["digest"]),
                    size=int(layer["size"]),
                    title=str(layer["annotations"][TITLE]),
                )
                for layer in json.loads(content)["layers"]
            )
        except _UNREADABLE as error:
            raise FormatError(f"manifest: expected titled layers, got {error!r}") from error
        for layer in layers:
            if not DIGEST.fullmatch(layer.digest):
                raise FormatError(f"manifest: expected a sha256 digest, got {layer.digest!r}")
            if not _FILE_NAME.fullmatch(layer.title):
                raise FormatError(f"manifest: expected a plain file name, got {layer.title!r}")
        titles = [layer.title for layer in layers]
        if len(set(titles)) != len(titles):
            raise FormatError("manifest: expected every title once, got one twice")
        return cls(layers)


@dataclass(frozen=True, slots=True)
class GoldenExample:
    """An input and the probability that the model must give for it."""

    record: Mapping[str, Any]
    probability: float


@dataclass(frozen=True, slots=True)
class Description:
    """What this consumer reads of `release.json`, and no more: its contract names these fields."""

    name: str
    version: Version
    model_file: str
    scikit_learn: Version
    threshold: float
    golden_examples: tuple[GoldenExample, ...]

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a release description.

        Raises:
            FormatError: A field is missing or of another type.
        """
        try:
            raw = json.loads(content)
            description = cls(
                name=str(raw["name"]),
                version=Version(raw["version"]),
                model_file=str(raw["model_file"]),
                scikit_learn=Version(raw["libraries"]["scikit-learn"]),
                threshold=float(raw["threshold"]),
                golden_examples=tuple(
                    GoldenExample(dict(example["input"]), float(example["probability"]))
                    for example in raw["golden_examples"]
                ),
            )
        except _UNREADABLE as error:
            raise FormatError(f"{DESCRIPTION_FILE}: cannot be read: {error!r}") from error
        if not _FILE_NAME.fullmatch(description.model_file):
            raise FormatError(
                f"{DESCRIPTION_FILE}: expected a plain file name, got {description.model_file!r}"
            )
        if not description.golden_examples:
            raise FormatError(f"{DESCRIPTION_FILE}: expected golden examples, got none")
        return description


@dataclass(frozen=True, slots=True)
class ServedRelease:
    """What this consumer served last of a channel."""

    digest: str
    version: Version


@dataclass(frozen=True, slots=True)
class PulledRelease:
    """A release in a folder: every layer is what its descriptor says, but nobody vouches yet."""

    folder: Path
    reference: Reference
    digest: str


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """A release that the trusted key signed and that is what was asked for."""

    folder: Path
    reference: Reference
    digest: str
    description: Description
