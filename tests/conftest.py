"""Owns what the tests share: keys, a small signed release, and a registry that can lie."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing
from sklearn.ensemble import HistGradientBoostingClassifier

from repo_api.cache import Cache
from repo_api.errors import RegistryError, ReleaseNotFoundError
from repo_api.hashing import CheckedFile, digest_of
from repo_api.registry import OnBytes
from repo_api.release import (
    DESCRIPTION_FILE,
    MANIFEST_TYPE,
    SCHEMA_FILE,
    SIGNATURE_FILE,
    TITLE,
    Descriptor,
    Manifest,
    Reference,
)

CHANNEL = Reference("registry.test", "edustream/churn-model", "v2")
MODEL_FILE = "churn_model_v2.pkl"
INPUT_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Learner",
    "type": "object",
    "properties": {
        "age_band": {"type": "string", "enum": ["0-35", "35-55", "55<="]},
        "studied_credits": {"type": "integer", "minimum": 0, "maximum": 1000},
        "clicks_28d": {"type": "integer", "minimum": 0},
        "mean_score_28d": {"type": ["number", "null"], "minimum": 0, "maximum": 100},
    },
    "required": ["age_band", "studied_credits", "clicks_28d"],
}
GOLDEN_INPUTS = (
    {"age_band": "0-35", "studied_credits": 60, "clicks_28d": 0, "mean_score_28d": None},
    {"age_band": "35-55", "studied_credits": 120, "clicks_28d": 250, "mean_score_28d": 81.5},
    {"age_band": "55<=", "studied_credits": 30, "clicks_28d": 40},
)
GOLDEN_ROWS = ((0, 60, 0, np.nan), (1, 120, 250, 81.5), (2, 30, 40, np.nan))


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two halves of a signing key, PEM."""

    private: Path
    public: Path


@dataclass
class MemoryRegistry:
    """A registry in memory that keeps the promise of `Registry`, whatever its store holds.

    A test makes the store lie by `blobs`, `manifests` and `tags`; `requests`
    tells what it was asked for.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    reachable: bool = True

    def publish(self, folder: Path, *tags: str) -> str:
        """Store the files of a folder as a release, and return its digest."""
        layers = []
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            self.blobs[digest_of(content)] = content
            layers.append(
                {
                    "mediaType": "application/octet-stream",
                    "digest": digest_of(content),
                    "size": len(content),
                    "annotations": {TITLE: path.name},
                }
            )
        manifest = json.dumps({"mediaType": MANIFEST_TYPE, "layers": layers}).encode()
        digest = digest_of(manifest)
        self.manifests[digest] = manifest
        self.tags |= dict.fromkeys(tags, digest)
        return digest

    def layer(self, digest: str, title: str) -> Descriptor:
        """Find a layer of a release by its title."""
        layers = Manifest.from_json(self.manifests[digest]).layers
        return next(layer for layer in layers if layer.title == title)

    def resolve(self, reference: Reference) -> str:
        """Look up a tag."""
        self._ask(f"HEAD {reference.tag}")
        if reference.tag not in self.tags:
            raise ReleaseNotFoundError(str(reference), reference.repository)
        return self.tags[reference.tag]

    def manifest(self, repository: str, digest: str) -> bytes:
        """Return a manifest."""
        self._ask(f"GET {repository}@{digest}")
        return self.manifests[digest]

    def fetch(self, repository: str, layer: Descriptor, into: Path, on_bytes: OnBytes) -> None:
        """Write a layer, checked as every registry has to."""
        self._ask(f"GET {layer.title}")
        if layer.digest not in self.blobs:
            raise RegistryError(f"{repository}: {layer.title} is missing")
        with CheckedFile(into, layer) as checked:
            checked.write(self.blobs[layer.digest])
            on_bytes(checked.size)
            checked.check()

    def referrers(self, repository: str, digest: str, artifact_type: str) -> tuple[str, ...]:
        """List the manifests whose subject is another one."""
        self._ask(f"GET {repository} referrers")
        found = []
        for referrer, content in self.manifests.items():
            manifest = json.loads(content)
            if (manifest.get("subject", {}).get("digest"), manifest.get("artifactType")) == (
                digest,
                artifact_type,
            ):
                found.append(referrer)
        return tuple(found)

    def push(self, repository: str, layer: Descriptor, content: bytes) -> None:
        """Store a layer."""
        self._ask(f"PUT {repository} {layer.title}")
        self.blobs[layer.digest] = content

    def push_manifest(self, reference: Reference, content: bytes) -> None:
        """Store a manifest under a tag."""
        self._ask(f"PUT {reference.tag}")
        self.manifests[digest_of(content)] = content
        self.tags[reference.tag] = digest_of(content)

    def _ask(self, request: str) -> None:
        self.requests.append(request)
        if not self.reachable:
            raise RegistryError("registry.test: the registry does not answer")


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small model of `INPUT_SCHEMA`, once."""
    random = np.random.default_rng(7)
    rows = np.column_stack(
        [
            random.integers(0, 3, 400),
            random.integers(0, 200, 400),
            random.integers(0, 400, 400),
            np.where(random.random(400) < 0.3, np.nan, random.uniform(0, 100, 400)),
        ]
    ).astype(np.float64)
    churned = (rows[:, 2] < random.integers(0, 200, 400)).astype(int)
    model = HistGradientBoostingClassifier(
        max_iter=8, categorical_features=[0], early_stopping=False, random_state=7
    ).fit(rows, churned)
    path = tmp_path_factory.mktemp("model") / MODEL_FILE
    joblib.dump(model, path)
    return path


@pytest.fixture(scope="session")
def description(model_file: Path) -> Mapping[str, Any]:
    """Describe the small model as a producer does."""
    probabilities = joblib.load(model_file).predict_proba(np.array(GOLDEN_ROWS))[:, 1]
    return {
        "name": "churn-model",
        "version": "2.0.0",
        "schema_version": 2,
        "git_revision": None,
        "created": "2026-01-01T00:00:00Z",
        "model_file": MODEL_FILE,
        "libraries": {"python": "3.11.0", "scikit-learn": version("scikit-learn")},
        "target": "churned",
        "threshold": 0.5,
        "metrics": {},
        "golden_examples": [
            {"input": record, "probability": float(probability)}
            for record, probability in zip(GOLDEN_INPUTS, probabilities, strict=True)
        ],
    }


MakeRelease = Callable[..., Path]


@pytest.fixture
def make_release(
    tmp_path: Path, keys: KeyPair, model_file: Path, description: Mapping[str, Any]
) -> MakeRelease:
    """Make folders of a signed release; keywords replace fields of its description."""
    count = 0

    def make(*, key: Path | None = None, **changes: object) -> Path:
        nonlocal count
        count += 1
        folder = tmp_path / f"release-{count}"
        folder.mkdir()
        (folder / MODEL_FILE).write_bytes(model_file.read_bytes())
        (folder / SCHEMA_FILE).write_text(json.dumps(INPUT_SCHEMA), encoding="utf-8")
        content = json.dumps({**description, **changes})
        (folder / DESCRIPTION_FILE).write_text(content, encoding="utf-8")
        sign(folder, key or keys.private)
        return folder

    return make


def make_keys(folder: Path) -> KeyPair:
    """Make a P-256 key pair."""
    private = ec.generate_private_key(ec.SECP256R1())
    pair = KeyPair(folder / "signing.pem", folder / "signing.pub")
    pair.private.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    pair.public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return pair


def sign(folder: Path, key: Path) -> None:
    """Sign all the files of a folder, as a producer does."""
    ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE])
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(ignored).sign(
        folder, folder / SIGNATURE_FILE
    )
