"""Writes the contract of this version, and holds this API against it: run by `tox run -e contract`.

The folder `pacts` then is the contract. It is compared with the released one of this version,
which EDUSTREAM_CONTRACTS has: a folder with `repo-api/<version>/`, or a registry (`host:port`).
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pact import Pact, match

from cases import cases
from repo_api.contract import (
    CONSUMER,
    PROVIDER,
    SCHEMA_FILE,
    Contract,
    own_reference,
    own_request_schema,
    own_version,
)
from repo_api.errors import ReleaseNotFoundError
from repo_api.model import Model
from repo_api.predict import predict
from repo_api.records import RecordReader
from repo_api.registry import OciRegistry
from repo_api.release import Description, Manifest
from repo_api.schema import Schema

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "pacts"
SCHEMA = Schema.from_json(own_request_schema(), "request_schema.json")
RECORDS = {f"a request to score a learner: {case}": record for case, record in cases(SCHEMA)}
RELEASE = {
    "name": "churn-model",
    "version": match.type("1.2.3"),
    "model_file": match.type("model.pkl"),
    "libraries": {"scikit-learn": match.type("1.9.1")},
    "threshold": match.number(0.5),
    "golden_examples": match.each_like(
        {"input": match.type({}), "probability": match.number(0.25)}, min=1
    ),
}
JSON = "application/json"


@pytest.fixture(scope="module")
def pact() -> Pact:
    """Derive the pact: what this API reads of a release, and what it asks a model."""
    pact = Pact(CONSUMER, PROVIDER).with_specification("V4")
    pact.upon_receiving("a model release", "Async").with_body(RELEASE, content_type=JSON)
    for description, record in RECORDS.items():
        (
            pact.upon_receiving(description, "Sync")
            .with_body(dict(record), content_type=JSON)
            .will_respond_with()
            .with_body({"probability": match.number(0.25)}, content_type=JSON)
        )
    return pact


@pytest.fixture(scope="module")
def written(pact: Pact) -> Contract:
    """Write the contract in place of what an earlier run wrote: pact itself would merge."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    pact.write_file(FOLDER)
    (FOLDER / SCHEMA_FILE).write_bytes(own_request_schema())
    return Contract.from_folder(FOLDER, str(FOLDER))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """Bring the released contract of this version."""
    place = os.environ.get("EDUSTREAM_CONTRACTS") or str(ROOT.parent / "contracts")
    if Path(place).is_dir() or "/" in place.partition("://")[2] or ":" not in place:
        folder = Path(place) / CONSUMER / own_version()
        if not folder.is_dir():
            pytest.skip(nothing_released(str(folder)))
        return Contract.from_folder(folder, str(folder))
    registry, reference = OciRegistry(place), own_reference(place.rpartition("://")[2])
    try:
        digest = registry.resolve(reference)
    except ReleaseNotFoundError:
        pytest.skip(nothing_released(str(reference)))
    folder = tmp_path_factory.mktemp("released")
    manifest = Manifest.from_json(registry.manifest(reference.repository, digest))
    for layer in manifest.layers:
        registry.fetch(reference.repository, layer, folder / layer.title, lambda _: None)
    return Contract.from_folder(folder, str(reference))


def nothing_released(place: str) -> str:
    return (
        f"nothing is released yet to compare with: {place}; "
        f"to release what {FOLDER.name} holds now, copy it to {CONSUMER}/{own_version()} "
        "in the folder of the contracts, and run: repo-api contract publish"
    )


def test_the_api_reads_the_release(pact: Pact) -> None:
    read = []

    pact.verify(lambda body, _: read.append(Description.from_json(text(body).encode())), "Async")

    assert [description.name for description in read] == ["churn-model"]


def test_the_api_accepts_every_request(pact: Pact) -> None:
    reader, accepted = RecordReader(SCHEMA, SCHEMA), []

    def accept(body: str | bytes | None, _: object) -> None:
        accepted.append(reader.one(text(body).encode()))

    pact.verify(accept, "Sync")

    assert len(accepted) == len(RECORDS)


def test_the_api_answers_with_every_response(pact: Pact) -> None:
    """Asked every request, a model that answers as the pact says makes this API answer."""
    answers: list[dict[str, Any]] = []

    for message in pact.interactions("Sync"):
        (response,) = message.response_contents
        probability = json.loads(text(response.contents))["probability"]
        model = Model(
            name="churn-model",
            version="1.2.3",
            digest="sha256:0",
            threshold=0.5,
            schema=SCHEMA,
            engine="pact",
            score=lambda rows, it=probability: np.full(len(rows), it),  # type: ignore[misc]
        )
        request = text(message.request_contents.contents).encode()
        answers += map(json.loads, predict(model, SCHEMA, [request]))

    assert len(answers) == len(RECORDS)
    assert {(answer["probability"], answer["decision"]) for answer in answers} == {(0.25, False)}


def test_no_case_is_missing_in_what_was_written(written: Contract) -> None:
    """A pact without interactions would hold for every model."""
    descriptions = {each["description"] for each in agreed(written)["interactions"]}

    assert descriptions == {"a model release", *RECORDS}
    assert written.interactions == 1 + len(RECORDS) > 1


def test_what_was_written_is_what_was_released(written: Contract, released: Contract) -> None:
    new, old = agreed(written), agreed(released)

    changed = sorted(
        f"{interaction['description']} ({change})"
        for here, there, change in ((new, old, "not released so"), (old, new, "not derived so"))
        for interaction in here["interactions"]
        if interaction not in there["interactions"]
    )

    advice = "a released contract never changes: raise the version in pyproject.toml"
    assert not changed, advice
    assert new == old, advice
    assert written.request_schema == released.request_schema, advice


def agreed(contract: Contract) -> dict[str, Any]:
    """Give what the two sides agree on, and not which program wrote it down."""
    pact = json.loads(contract.pact)
    return {part: pact[part] for part in ("consumer", "provider", "interactions")}


def text(contents: object) -> str:
    assert isinstance(contents, str)
    return contents
