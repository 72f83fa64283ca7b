"""Replays contracts against freshly packaged models: run by `tox run -e contract`.

The consumers' released contracts come from EDUSTREAM_CONTRACTS, a folder or a registry, or from
the superproject's `contracts` beside this repository.
"""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from packaging.version import Version

from conftest import shipped
from made_contracts import contract_of
from repo_ml.data.synthetic import synthetic
from repo_ml.data.table import training_of
from repo_ml.errors import ContractError
from repo_ml.handover import contracts_at
from repo_ml.package import package, scorer
from repo_ml.pacts import verify_contract
from repo_ml.release import PackagedRelease
from repo_ml.schema import InputSchema
from repo_ml.train import train

# pact's message server leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
BESIDE = Path(__file__).parents[2] / "contracts"
PLACE = os.environ.get("EDUSTREAM_CONTRACTS") or (str(BESIDE) if BESIDE.is_dir() else None)
KEY = os.environ.get("EDUSTREAM_TRUSTED_KEY")

Make = Callable[[InputSchema, str], PackagedRelease]


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def make(schema: InputSchema, version: str) -> PackagedRelease:
        # learners who fit each of the changes below
        learners = (
            synthetic(400, 7)
            .filter(pl.col("age_band") != "55<=")
            .with_columns(pl.col("mean_score_28d").round(), x=pl.lit("true"))
        )
        training = training_of(learners, schema, "churned", None, "made-up learners")
        out = tmp_path_factory.mktemp("releases")
        trained = train(training, seed=7)
        return package(trained, name="churn-model", version=Version(version), out=out)

    return make


@pytest.fixture(scope="session")
def model_v2(make: Make) -> PackagedRelease:
    return make(shipped(2), "2.0.0")


@pytest.mark.skipif(PLACE is None, reason="EDUSTREAM_CONTRACTS names no contracts")
@pytest.mark.parametrize("number", [1, 2])
def test_model_fits_every_consumer_of_its_major_version_and_after(make: Make, number: int) -> None:
    packaged = make(shipped(number), f"{number}.0.0")
    contracts = contracts_at(str(PLACE), Path(KEY) if KEY else None)
    assert contracts

    results = [verify_contract(packaged, found, scorer(packaged)) for found in contracts]

    for contract, result in zip(contracts, results, strict=True):
        assert result.interactions == len(contract.records) + 1
        assert result.fits == (contract.version.major >= number), result


def taken(change: Callable[[dict[str, Any]], object]) -> InputSchema:
    raw = copy.deepcopy(json.loads(shipped(2).source))
    change(raw)
    return InputSchema.from_json(json.dumps(raw).encode(), "changed.json")


def p(raw: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = raw["properties"][name]
    return found


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str | None]] = {
    "new required property": (
        lambda raw: (raw["properties"].update(x={"type": "boolean"}), raw["required"].append("x")),
        "x is required and never sent",
    ),
    "new optional property": (
        lambda raw: raw["properties"].update(x={"type": "boolean"}),
        None,
    ),
    "enum member removed": (
        lambda raw: p(raw, "age_band")["enum"].remove("55<="),
        "age_band may be '55<=', which is not accepted",
    ),
    "enum member added": (lambda raw: p(raw, "age_band")["enum"].append("75<="), None),
    "minimum raised": (
        lambda raw: p(raw, "studied_credits").update(minimum=30),
        "studied_credits may be 0, and the least accepted is 30",
    ),
    "minimum lowered": (lambda raw: p(raw, "studied_credits").update(minimum=-30), None),
    "integer to number": (lambda raw: p(raw, "studied_credits").update(type="number"), None),
    "number to integer": (
        lambda raw: p(raw, "mean_score_28d").update(type=["integer", "null"]),
        "mean_score_28d is sent as number and accepted as integer",
    ),
    "null no longer allowed": (
        lambda raw: p(raw, "last_active_day").update(type="integer"),
        "last_active_day may be null, which is not accepted",
    ),
    "null allowed": (
        lambda raw: p(raw, "studied_credits").update(type=["integer", "null"]),
        None,
    ),
    "property removed": (lambda raw: raw["properties"].pop("mean_score_28d"), None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_pact_and_proof_agree_on_every_change_of_the_input(make: Make, change: str) -> None:
    apply, reason = CHANGES[change]
    packaged = make(taken(apply), "2.1.0")

    result = verify_contract(packaged, contract_of(shipped(2)), scorer(packaged))

    said = [f"{misfit.property} {misfit.reason}" for misfit in result.misfits]
    assert said == ([] if reason is None else [reason])
    assert bool(result.failed) == (reason is not None)


def test_provider_that_answers_nonsense_is_no_fit(model_v2: PackagedRelease) -> None:
    with pytest.raises(ContractError, match="pact and proof disagree"):
        verify_contract(model_v2, contract_of(shipped(2)), lambda _: "high")  # type: ignore[arg-type,return-value]  # that is the nonsense


def test_release_of_another_name_is_no_fit(make: Make) -> None:
    packaged = make(shipped(2), "2.0.0")
    text = (packaged.folder / "release.json").read_text(encoding="utf-8")
    (packaged.folder / "release.json").write_text(
        text.replace('"churn-model"', '"other-model"'), encoding="utf-8"
    )

    with pytest.raises(ContractError, match="a model release"):
        verify_contract(packaged, contract_of(shipped(2)), scorer(packaged))


def test_nothing_of_pact_reaches_the_terminal(
    model_v2: PackagedRelease, capfd: pytest.CaptureFixture[str]
) -> None:
    verify_contract(model_v2, contract_of(shipped(2)), scorer(model_v2))

    assert capfd.readouterr() == ("", "")
