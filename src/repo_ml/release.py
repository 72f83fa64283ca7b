"""Owns the types that pass between the verbs, and their formats."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from packaging.version import InvalidVersion, Version

from repo_ml.errors import FormatError
from repo_ml.schema import InputSchema

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
DESCRIPTION_FILE = "release.json"
SCHEMA_FILE = "input_schema.json"
SIGNATURE_FILE = "model.sig"
CARD_FILE = "README.md"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A release by tag or by manifest digest (OCI distribution-spec 1.1, pulling manifests)."""

    registry: str
    repository: str
    tag: str

    def __str__(self) -> str:
        """Write it the way that every OCI tool reads it."""
        separator = "@" if self.tag.startswith("sha256:") else ":"
        return f"{self.registry}/{self.repository}{separator}{self.tag}"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Some content, by what it is and what it hashes to (OCI image-spec 1.1, descriptor)."""

    media_type: str
    digest: str
    size: int
    title: str = ""


@dataclass(frozen=True, slots=True)
class Training:
    """Records that fit their schema, and their outcome: bool, shape (n,)."""

    schema: InputSchema
    target: str
    records: tuple[Mapping[str, Any], ...]
    outcome: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """How good probabilities are: area under ROC, average precision, Brier score, log loss."""

    auc: float
    average_precision: float
    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    """An estimator and what was measured of it.

    `held_out_outcome` (bool) and `held_out_probability` (float64), both of
    shape (n,), are what the plots are drawn from. `baseline_auc` is the
    cross-validated AUC on the same rows with the schema before this one.
    """

    estimator: object
    schema: InputSchema
    target: str
    rows: int
    base_rate: float
    cross_validation: Scores
    held_out: Scores
    baseline_auc: float | None
    threshold: float
    held_out_outcome: NDArray[np.bool_]
    held_out_probability: NDArray[np.float64]
    golden_examples: tuple[tuple[Mapping[str, Any], float], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a release comes from: the commit, and its time as RFC 3339."""

    git_revision: str | None
    created: str


@dataclass(frozen=True, slots=True)
class Description:
    """What `release.json` says; the consumers' contracts name the fields that they read."""

    name: str
    version: Version
    origin: Origin
    libraries: Mapping[str, str]
    target: str
    threshold: float
    metrics: Mapping[str, Mapping[str, float]]
    golden_examples: tuple[tuple[Mapping[str, Any], float], ...]

    def __post_init__(self) -> None:
        """Refuse a name that no OCI repository can have."""
        release_name(self.name)

    @property
    def model_file(self) -> str:
        """Name the estimator's file."""
        return f"{self.name.replace('-', '_')}_v{self.version.major}.pkl"

    @property
    def tag(self) -> str:
        """Name the tag that never moves."""
        return f"v{self.version}"

    @property
    def channel(self) -> str:
        """Name the tag that moves to the newest release of this major version."""
        return f"v{self.version.major}"

    @property
    def repository(self) -> str:
        """Name the repository in the registry."""
        return f"edustream/{self.name}"

    def to_json(self) -> bytes:
        """Write `release.json`, byte for byte the same for the same release."""
        raw = {
            "name": self.name,
            "version": str(self.version),
            "schema_version": self.version.major,
            "git_revision": self.origin.git_revision,
            "created": self.origin.created,
            "model_file": self.model_file,
            "libraries": dict(self.libraries),
            "target": self.target,
            "threshold": self.threshold,
            "metrics": {part: dict(figures) for part, figures in self.metrics.items()},
            "golden_examples": [
                {"input": dict(record), "probability": probability}
                for record, probability in self.golden_examples
            ],
        }
        return (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read `release.json`.

        Raises:
            FormatError: A field is missing or of another type.
        """
        try:
            raw = json.loads(content)
            return cls(
                name=str(raw["name"]),
                version=release_version(raw["version"]),
                origin=Origin(raw["git_revision"], str(raw["created"])),
                libraries=dict(raw["libraries"]),
                target=str(raw["target"]),
                threshold=float(raw["threshold"]),
                metrics=dict(raw["metrics"]),
                golden_examples=tuple(
                    (dict(example["input"]), float(example["probability"]))
                    for example in raw["golden_examples"]
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{DESCRIPTION_FILE}: cannot be read: {error!r}") from error


@dataclass(frozen=True, slots=True)
class PackagedRelease:
    """A release in a folder, with everything in it but the signature."""

    folder: Path
    description: Description


@dataclass(frozen=True, slots=True)
class SignedRelease:
    """A release in a folder, ready to be handed over."""

    folder: Path
    description: Description


@dataclass(frozen=True, slots=True)
class Artifact:
    """A signed release as a registry sees it: its layers, its configuration, its manifest."""

    signed: SignedRelease
    layers: tuple[Descriptor, ...]
    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        """Give the digest that pins the release."""
        return describe(MANIFEST_TYPE, self.manifest).digest

    @property
    def size(self) -> int:
        """Give the bytes of all layers and the configuration."""
        return sum(layer.size for layer in self.layers) + len(self.config)


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """A release that the registry holds; `already` says that it did before."""

    reference: Reference
    already: bool


def describe(media_type: str, content: bytes, title: str = "") -> Descriptor:
    """Describe some content."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return Descriptor(media_type, digest, len(content), title)


def plain(descriptor: Descriptor) -> dict[str, Any]:
    """Give a descriptor as it stands in a manifest, its title apart."""
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }


def to_json(value: object) -> bytes:
    """Write a manifest, byte for byte the same for the same value."""
    return json.dumps(value, separators=(",", ":")).encode()


def layers_from_json(manifest: bytes, subject: str) -> tuple[Descriptor, ...]:
    """Read the titled layers of a manifest.

    Raises:
        FormatError: It is no image manifest of titled layers.
    """
    try:
        return tuple(
            Descriptor(
                str(layer["mediaType"]),
                str(layer["digest"]),
                int(layer["size"]),
                str(layer["annotations"][TITLE]),
            )
            for layer in json.loads(manifest)["layers"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{subject}: expected titled layers, got {error!r}") from error


def open_release(folder: Path) -> PackagedRelease:
    """Read the description of a folder that `package` wrote.

    Raises:
        FormatError: It is no release.
    """
    try:
        content = (folder / DESCRIPTION_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FormatError(
            f"{folder}: expected a release folder, got no {DESCRIPTION_FILE}; "
            f"make one: repo-ml package"
        ) from error
    return PackagedRelease(folder, Description.from_json(content))


def release_name(text: str) -> str:
    """Read a name that an OCI repository can have.

    Raises:
        FormatError: It is none.
    """
    if not _NAME.fullmatch(text):
        raise FormatError(f"name {text!r}: expected lower-case letters, digits and single hyphens")
    return text


def release_version(text: str) -> Version:
    """Read a version of three numbers (semver.org 2.0.0).

    Raises:
        FormatError: It is none.
    """
    try:
        version = Version(text)
    except InvalidVersion:
        version = Version("0")
    numbers = version.release
    if len(numbers) != 3 or text != ".".join(map(str, numbers)):  # noqa: PLR2004  # major, minor, patch
        raise FormatError(f"version {text!r}: expected three numbers, such as 2.0.1")
    return version


def figures(scores: Scores) -> dict[str, float]:
    """Give the scores as they stand in `release.json`."""
    return asdict(scores)
