"""Publishing: what the manifest says, in which order it goes out, which version may follow."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from conftest import MemoryRegistry, schema_of, sha256
from repo_ml.errors import FormatError, RegistryError, VersionClaimError, VersionTakenError
from repo_ml.publish import assemble, publish
from repo_ml.release import (
    Description,
    Origin,
    PublishedRelease,
    Reference,
    SignedRelease,
    open_release,
)

_REPOSITORY = "edustream/churn-model"
_COUNT = {"type": "integer", "minimum": 0, "maximum": 9}
_PLAN = {"type": "string", "enum": ["basic", "plus"]}
_BEFORE: Mapping[str, Any] = {"count": _COUNT, "plan": _PLAN}


def _signed(
    version: str,
    properties: Mapping[str, Any] = _BEFORE,
    required: tuple[str, ...] = ("count",),
    model: bytes = b"model",
) -> SignedRelease:
    """Write a folder like that of `package` and `sign`, of made-up content."""
    description = Description(
        name="churn-model",
        version=Version(version),
        origin=Origin(None, "2026-11-22T20:00:00Z"),
        libraries={"python": "3.11.7"},
        target="churned",
        threshold=0.3,
        metrics={},
        golden_examples=(),
    )
    folder = Path(f"churn-model-{version}-{sha256(model)[-6:]}")
    folder.mkdir()
    for name, content in {
        description.model_file: model,
        "release.json": description.to_json(),
        "input_schema.json": schema_of(properties, required).source,
        "README.md": b"# Card",
        "roc.png": b"roc",
        "calibration.png": b"calibration",
        "model.sig": b"{}",
    }.items():
        (folder / name).write_bytes(content)
    return SignedRelease(folder, description)


def _again(version: str) -> SignedRelease:
    """Open a folder that `_signed` wrote."""
    (folder,) = Path().glob(f"churn-model-{version}-*")
    return SignedRelease(folder, open_release(folder).description)


def _publish(registry: MemoryRegistry, signed: SignedRelease) -> PublishedRelease:
    return publish(registry, "localhost:5000", assemble(signed), lambda _: None)


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def released(registry: MemoryRegistry) -> MemoryRegistry:
    """Hold version 2.0.0."""
    _publish(registry, _signed("2.0.0"))
    return registry


def test_manifest_is_a_model_pack(registry: MemoryRegistry, signed: SignedRelease) -> None:
    published = _publish(registry, signed)

    raw = json.loads(registry.manifests[published.reference.tag])

    assert raw["schemaVersion"] == 2
    assert raw["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert raw["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert raw["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    weight, doc = "application/vnd.cncf.model.weight", "application/vnd.cncf.model.doc"
    assert [(layer["annotations"], layer["mediaType"]) for layer in raw["layers"]] == [
        ({"org.opencontainers.image.title": name, "org.cncf.model.filepath": name}, kind)
        for name, kind in {
            "churn_model_v2.pkl": f"{weight}.v1.raw",
            "release.json": f"{weight}.config.v1.raw",
            "input_schema.json": f"{weight}.config.v1.raw",
            "README.md": f"{doc}.v1.raw",
            "roc.png": f"{doc}.v1.raw",
            "calibration.png": f"{doc}.v1.raw",
            "model.sig": "application/vnd.dev.sigstore.bundle.v0.3+json",
        }.items()
    ]


def test_manifest_describes_every_file_as_it_is(
    registry: MemoryRegistry, signed: SignedRelease
) -> None:
    published = _publish(registry, signed)

    raw = json.loads(registry.manifests[published.reference.tag])

    for layer in raw["layers"]:
        path = signed.folder / layer["annotations"]["org.opencontainers.image.title"]
        assert layer["digest"] == sha256(path.read_bytes())
        assert layer["size"] == path.stat().st_size
        assert registry.blobs[layer["digest"]] == path.read_bytes()


def test_configuration_has_the_keys_of_model_pack_and_no_others(registry: MemoryRegistry) -> None:
    published = _publish(registry, _signed("2.0.0"))

    manifest = json.loads(registry.manifests[published.reference.tag])
    config = json.loads(registry.blobs[manifest["config"]["digest"]])

    assert set(config) == {"descriptor", "config", "modelfs"}
    assert set(config["descriptor"]) <= {"createdAt", "name", "version", "revision"}
    assert config["descriptor"]["name"] == "churn-model"
    assert config["descriptor"]["version"] == "2.0.0"
    assert set(config["modelfs"]) == {"type", "diffIds"}
    assert config["modelfs"]["type"] == "layers"
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


def test_same_release_has_the_same_digest(signed: SignedRelease) -> None:
    digests = {_publish(MemoryRegistry(), signed).reference for _ in range(2)}

    assert len(digests) == 1


def test_reference_is_pinned_by_digest(registry: MemoryRegistry) -> None:
    published = _publish(registry, _signed("2.0.0"))

    digest = registry.resolve(Reference("", _REPOSITORY, "v2.0.0"))

    assert str(published.reference) == f"localhost:5000/{_REPOSITORY}@{digest}"
    assert not published.already


def test_layers_go_first_then_the_version_then_the_channel(released: MemoryRegistry) -> None:
    *content, version, channel = released.log

    assert (version, channel) == ("v2.0.0", "v2")
    assert len(content) == 8
    assert set(content) == set(released.blobs)


def test_bytes_that_are_through_are_counted(registry: MemoryRegistry) -> None:
    signed, through = _signed("2.0.0"), list[int]()
    size = sum(path.stat().st_size for path in signed.folder.iterdir())

    publish(registry, "localhost:5000", assemble(signed), through.append)

    assert sum(through) > size


def test_refused_layer_leaves_no_tag(registry: MemoryRegistry) -> None:
    registry.refuse(sha256(b"model"))

    with pytest.raises(RegistryError):
        _publish(registry, _signed("2.0.0"))

    assert registry.tagged == {}


def test_refused_manifest_leaves_no_tag(registry: MemoryRegistry) -> None:
    registry.refuse("manifest")

    with pytest.raises(RegistryError):
        _publish(registry, _signed("2.0.0"))

    assert registry.tagged == {}


def test_publishing_the_same_bytes_again_sends_nothing_and_succeeds(
    released: MemoryRegistry,
) -> None:
    before, digest = list(released.log), released.tagged[_REPOSITORY, "v2.0.0"]

    published = _publish(released, _again("2.0.0"))

    assert published.already
    assert published.reference.tag == digest
    assert released.log == before


def test_lost_channel_is_put_back_by_publishing_again(released: MemoryRegistry) -> None:
    digest = released.tagged.pop((_REPOSITORY, "v2"))

    _publish(released, _again("2.0.0"))

    assert released.tagged[_REPOSITORY, "v2"] == digest


def test_version_with_other_bytes_is_taken(released: MemoryRegistry) -> None:
    _publish(released, _signed("2.0.1"))
    before = list(released.log)

    with pytest.raises(VersionTakenError, match=r"publish with --version 2\.0\.2") as refused:
        _publish(released, _signed("2.0.0", model=b"another"))

    assert refused.value.released == released.tagged[_REPOSITORY, "v2.0.0"]
    assert released.log == before


def test_retrained_model_is_a_patch_and_moves_the_channel(released: MemoryRegistry) -> None:
    published = _publish(released, _signed("2.0.1", model=b"retrained"))

    assert released.tagged[_REPOSITORY, "v2"] == published.reference.tag
    assert released.tagged[_REPOSITORY, "v2.0.0"] != published.reference.tag


def test_added_optional_input_needs_a_minor(released: MemoryRegistry) -> None:
    wider = {**_BEFORE, "months": {"type": "integer"}}

    with pytest.raises(VersionClaimError, match=r"the input months changed") as refused:
        _publish(released, _signed("2.0.1", wider))

    assert refused.value.needed == "2.1.0"
    _publish(released, _signed("2.1.0", wider))


@pytest.mark.parametrize(
    ("properties", "required", "reason"),
    [
        ({**_BEFORE, "months": {"type": "integer"}}, ("count", "months"), "never sent"),
        (_BEFORE, ("count", "plan"), "plan is required and may be left out"),
        ({**_BEFORE, "count": {**_COUNT, "maximum": 8}}, ("count",), "the most accepted is 8"),
        (
            {**_BEFORE, "plan": {"type": "string", "enum": ["basic"]}},
            ("count",),
            "may be 'plus', which is not accepted",
        ),
        ({**_BEFORE, "count": {"type": "boolean"}}, ("count",), "accepted as boolean"),
    ],
)
def test_input_that_breaks_a_consumer_needs_a_major(
    properties: Mapping[str, Any],
    required: tuple[str, ...],
    reason: str,
    released: MemoryRegistry,
) -> None:
    before = list(released.log)

    with pytest.raises(VersionClaimError, match=reason) as refused:
        _publish(released, _signed("2.7.3", properties, required))

    assert refused.value.needed == "3.0.0"
    assert released.log == before
    _publish(released, _signed("3.0.0", properties, required))
    assert (_REPOSITORY, "v3") in released.tagged


def test_claiming_too_much_is_allowed(released: MemoryRegistry) -> None:
    _publish(released, _signed("3.0.0"))

    assert (_REPOSITORY, "v3.0.0") in released.tagged


def test_first_release_may_have_any_version(registry: MemoryRegistry) -> None:
    _publish(registry, _signed("4.5.6"))

    assert (_REPOSITORY, "v4") in registry.tagged


def test_channel_never_moves_back(released: MemoryRegistry) -> None:
    newest = _publish(released, _signed("2.2.0"))

    _publish(released, _signed("2.1.0"))

    assert released.tagged[_REPOSITORY, "v2"] == newest.reference.tag
    assert (_REPOSITORY, "v2.1.0") in released.tagged


def test_older_major_has_a_channel_of_its_own(released: MemoryRegistry) -> None:
    older = _publish(released, _signed("1.4.0", {"count": _COUNT}, ()))

    assert released.tagged[_REPOSITORY, "v1"] == older.reference.tag
    assert released.tagged[_REPOSITORY, "v2"] != older.reference.tag


def test_foreign_tags_are_no_versions(released: MemoryRegistry) -> None:
    digest = released.tagged[_REPOSITORY, "v2.0.0"]
    for tag in ("latest", "v10", "sha256-0123", "v3.0.0-rc.1"):
        released.tagged[_REPOSITORY, tag] = digest

    _publish(released, _signed("2.0.1"))

    assert released.tagged[_REPOSITORY, "latest"] == digest


def test_release_before_it_that_is_none_of_ours_is_refused(registry: MemoryRegistry) -> None:
    empty = b'{"config": {"digest": "d"}, "layers": []}'
    registry.blobs["d"] = b""
    registry.push_manifest(Reference("", _REPOSITORY, "v1.0.0"), empty)

    with pytest.raises(FormatError, match=r"holds no input_schema\.json"):
        _publish(registry, _signed("2.0.0"))


def test_listed_release_that_is_not_there_is_refused(released: MemoryRegistry) -> None:
    released.drop(released.tagged[_REPOSITORY, "v2.0.0"])

    with pytest.raises(RegistryError, match="missing in the registry"):
        _publish(released, _signed("2.0.1"))


@pytest.mark.parametrize("change", ["no signature", "a file more"])
def test_folder_that_is_no_whole_release_is_refused(change: str) -> None:
    signed = _signed("2.0.0")
    if change == "no signature":
        (signed.folder / "model.sig").unlink()
    else:
        (signed.folder / "notes.txt").touch()

    with pytest.raises(FormatError, match="package and sign it again"):
        assemble(signed)
