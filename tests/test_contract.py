"""What a contract must hold to be one, and what is kept of a verification."""

import json
from typing import Any

import pytest

from conftest import shipped
from made_contracts import CONSUMER, PACT, SCHEMA, contract_of, files_of
from repo_ml.contract import Contract, Verification
from repo_ml.errors import FormatError, Misfit


def read(files: dict[str, bytes]) -> Contract:
    return Contract.from_files(files, CONSUMER, "2.0.0", None)


def changed(**changes: Any) -> dict[str, bytes]:  # noqa: ANN401  # any JSON
    files = files_of(shipped(2))
    return files | {PACT: json.dumps(json.loads(files[PACT]) | changes).encode()}


def test_contract_names_its_model_and_its_requests() -> None:
    contract = contract_of(shipped(2))

    assert contract.model == "churn-model"
    assert str(contract) == "repo-api 2.0.0"
    assert "a request to score a learner: studied_credits is 1000" in contract.records


def test_contract_without_a_pact_is_refused() -> None:
    with pytest.raises(FormatError, match=r"expected repo-api-repo-ml\.json, got request"):
        read({SCHEMA: shipped(2).source})


def test_contract_without_a_request_schema_is_refused() -> None:
    with pytest.raises(FormatError, match=r"expected request\.schema\.json"):
        read({PACT: files_of(shipped(2))[PACT]})


def test_empty_contract_is_refused() -> None:
    with pytest.raises(FormatError, match="got no file"):
        read({})


def test_pact_that_is_no_json_is_refused() -> None:
    with pytest.raises(FormatError, match="expected JSON"):
        read(files_of(shipped(2)) | {PACT: b"{"})


def test_json_that_is_no_pact_is_refused() -> None:
    with pytest.raises(FormatError, match="expected a message pact"):
        read(files_of(shipped(2)) | {PACT: b"[]"})


def test_pact_with_another_provider_is_refused() -> None:
    with pytest.raises(FormatError, match="got one of repo-api with repo-xx"):
        read(changed(provider={"name": "repo-xx"}))


def test_pact_of_another_consumer_is_refused() -> None:
    with pytest.raises(FormatError, match="got one of repo-yy with repo-ml"):
        read(changed(consumer={"name": "repo-yy"}))


def test_pact_without_interactions_is_refused() -> None:
    with pytest.raises(FormatError, match="got 0 other interactions"):
        read(changed(interactions=[]))


def test_pact_of_a_newer_specification_is_refused() -> None:
    with pytest.raises(FormatError, match=r"expected pact specification 4, got 5\.0"):
        read(changed(metadata={"pactSpecification": {"version": "5.0"}}))


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("studied_credits is 1000", "studied_credits 1000"),
        ("mean_score_28d is null", "mean_score_28d null"),
        ('imd_band is "20-30%"', 'imd_band "20-30%"'),
    ],
)
def test_pact_with_a_missing_interaction_is_refused(case: str, named: str) -> None:
    pact = json.loads(files_of(shipped(2))[PACT])
    kept = [found for found in pact["interactions"] if not found["description"].endswith(case)]

    with pytest.raises(FormatError, match=f"expected an interaction with {named}, got none"):
        read(changed(interactions=kept))


def test_verification_comes_back_as_it_was_kept() -> None:
    misfit = Misfit("clicks_28d", "is required and never sent", {"age_band": "0-35"})
    result = Verification(
        "repo-api", "1.0.0", "sha256:" + "0" * 64, "churn-model", "2.0.0", 3, ("a",), (misfit,)
    )

    again = Verification.from_json(result.to_json())

    assert again == result
    assert json.loads(result.to_json())["verdict"] == "does not fit"


def test_verification_that_cannot_be_read_is_no_verdict() -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        Verification.from_json(b"{}")
