"""Tests of `release`: the formats that others write and this consumer reads."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from packaging.version import Version

from repo_api.errors import FormatError
from repo_api.release import TITLE, Description, Descriptor, Manifest, Reference

DIGEST = "sha256:" + "a" * 64
LAYER = {"mediaType": "a/b", "digest": DIGEST, "size": 7, "annotations": {TITLE: "model.pkl"}}


def test_a_reference_is_written_as_every_oci_tool_reads_it() -> None:
    by_tag = Reference.parse("localhost:5000", "edustream/churn-model:v2")
    by_digest = Reference.parse("localhost:5000", f"edustream/churn-model@{DIGEST}")

    assert str(by_tag) == "localhost:5000/edustream/churn-model:v2"
    assert str(by_digest) == f"localhost:5000/edustream/churn-model@{DIGEST}"


@pytest.mark.parametrize(
    "text", ["", "churn-model", "Churn:v2", "../churn:v2", "a/b:", "a/b:v2/x", "a/b@v2", "a//b:v2"]
)
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Reference.parse("localhost:5000", text)


def test_a_manifest_lists_its_layers() -> None:
    manifest = Manifest.from_json(json.dumps({"layers": [LAYER]}).encode())

    assert manifest.layers == (Descriptor("a/b", DIGEST, 7, "model.pkl"),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no json", "expected titled layers"),
        (b"{}", "expected titled layers"),
        (b"[" * 100_000, "expected titled layers"),
        (b'{"layers": [{}]}', "expected titled layers"),
        (json.dumps({"layers": [LAYER | {"size": float("inf")}]}).encode(), "titled layers"),
        (json.dumps({"layers": [LAYER | {"annotations": None}]}).encode(), "titled layers"),
        (json.dumps({"layers": [LAYER | {"digest": "md5:1"}]}).encode(), "a sha256 digest"),
        (json.dumps({"layers": [LAYER, LAYER]}).encode(), "every title once"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        Manifest.from_json(content)


def test_a_description_gives_what_the_consumer_reads(description: Mapping[str, Any]) -> None:
    read = Description.from_json(json.dumps(description).encode())

    assert (read.name, read.version) == ("churn-model", Version("2.0.0"))
    assert len(read.golden_examples) == len(description["golden_examples"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "two"}, "cannot be read"),
        ({"libraries": {}}, "cannot be read"),
        ({"threshold": "high"}, "cannot be read"),
        ({"model_file": "../model.pkl"}, "a plain file name"),
        ({"golden_examples": []}, "expected golden examples, got none"),
    ],
)
def test_a_description_that_cannot_be_read_is_refused(
    description: Mapping[str, Any], change: Mapping[str, Any], reason: str
) -> None:
    with pytest.raises(FormatError, match=reason):
        Description.from_json(json.dumps({**description, **change}).encode())
