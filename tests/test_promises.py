"""What may go out although a consumer cannot use it, and what may not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import MemoryRegistry, shipped
from made_contracts import contract_of
from repo_ml.compatibility import compare
from repo_ml.contract import Contract, Verification
from repo_ml.errors import BrokenPromiseError, Misfit
from repo_ml.package import package
from repo_ml.promises import check_promises, keep, kept
from repo_ml.publish import assemble, publish
from repo_ml.release import SignedRelease, Trained
from repo_ml.schema import InputSchema
from repo_ml.sign import sign

Keys = tuple[Path, Path]


def released(
    trained: Trained, version: str, keys: Keys, folder: Path, registry: MemoryRegistry
) -> SignedRelease:
    packaged = package(trained, name="churn-model", version=Version(version), out=folder)
    signed = sign(packaged, keys[0])
    publish(registry, "host", assemble(signed), lambda _: None)
    return signed


def verdict(contract: Contract, taken: InputSchema, digest: str = "d") -> Verification:
    return Verification(
        contract.consumer,
        str(contract.version),
        digest,
        "churn-model",
        "2.1.0",
        40,
        (),
        compare(contract.schema, taken),
    )


def requiring(name: str) -> InputSchema:
    raw = json.loads(shipped(2).source)
    raw["required"].append(name)
    return InputSchema.from_json(json.dumps(raw).encode(), "v3")


def test_release_that_breaks_what_its_major_kept_is_refused(
    trained: Trained, keys: Keys, tmp_path: Path
) -> None:
    registry, contract = MemoryRegistry(), contract_of(shipped(2))
    before = released(trained, "2.0.0", keys, tmp_path, registry)
    offered = replace(before.description, version=Version("2.1.0"))
    failed = verdict(contract, requiring("mean_score_28d"))

    with pytest.raises(BrokenPromiseError) as refused:
        check_promises(registry, "host", offered, [(contract, failed)])

    message = str(refused.value)
    assert "breaks the contract of repo-api 2.0.0, which 2.0.0 keeps" in message
    assert "mean_score_28d is required and may be left out" in message
    assert json.dumps(failed.misfits[0].counterexample) in message
    assert "new major" in message


def test_release_under_a_new_major_says_whom_it_leaves_behind(
    trained: Trained, keys: Keys, tmp_path: Path
) -> None:
    registry, contract = MemoryRegistry(), contract_of(shipped(2))
    before = released(trained, "2.0.0", keys, tmp_path, registry)
    offered = replace(before.description, version=Version("3.0.0"))
    failed = verdict(contract, requiring("mean_score_28d"))

    assert check_promises(registry, "host", offered, [(contract, failed)]) == [failed]


def test_contract_that_the_major_never_kept_stops_nothing(
    trained: Trained, keys: Keys, tmp_path: Path
) -> None:
    registry, contract = MemoryRegistry(), contract_of(shipped(1), "1.0.0")
    before = released(trained, "2.0.0", keys, tmp_path, registry)
    offered = replace(before.description, version=Version("2.0.1"))
    failed = verdict(contract, shipped(2))

    assert check_promises(registry, "host", offered, [(contract, failed)]) == [failed]


def test_contract_that_fits_leaves_nobody_behind(signed: SignedRelease) -> None:
    contract = contract_of(shipped(2))

    left = check_promises(
        MemoryRegistry(), "host", signed.description, [(contract, verdict(contract, shipped(2)))]
    )

    assert left == []


def test_results_are_kept_beside_the_release_by_contract(
    trained: Trained, keys: Keys, tmp_path: Path
) -> None:
    registry = MemoryRegistry()
    signed = released(trained, "2.0.0", keys, tmp_path, registry)
    digest = assemble(signed).digest
    fits = verdict(contract_of(shipped(2)), shipped(2), "sha256:" + "2" * 64)
    misfit = Misfit("clicks_28d", "is required and never sent", {})
    fails = replace(fits, contract="sha256:" + "1" * 64, misfits=(misfit,))

    keep(registry, "edustream/churn-model", digest, [fits, fails])

    found = kept(registry, "edustream/churn-model", digest)
    assert found == {fits.contract: fits, fails.contract: fails}


def test_results_of_a_release_that_is_not_out_are_none() -> None:
    assert kept(MemoryRegistry(), "edustream/churn-model", "sha256:" + "0" * 64) == {}
