"""Owns the verification of a release against a contract, by pact and by proof.

The only module that imports pact. What follows from the result is left to `promises`.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any

import jsonschema
from pact import Verifier  # noqa: TID251
from pact.types import Message  # noqa: TID251

from repo_ml.compatibility import compare
from repo_ml.contract import PROVIDER, RELEASE_INTERACTION, Contract, Verification
from repo_ml.errors import ContractError
from repo_ml.release import DESCRIPTION_FILE, SCHEMA_FILE, PackagedRelease
from repo_ml.schema import InputSchema

Score = Callable[[Mapping[str, Any]], float]
"""From a record that fits the input schema to its probability."""


def verify_contract(packaged: PackagedRelease, contract: Contract, score: Score) -> Verification:
    """Replay every interaction of a contract against the packaged model.

    Pact compares what the model answers with what the consumer reads; the
    proof compares the two schemas. A verdict needs both to agree.

    Args:
        packaged: The release.
        contract: What a consumer sends and reads.
        score: Asks the packaged model.

    Raises:
        ContractError: Nothing was verified, or pact and proof disagree.
    """
    taken = InputSchema.from_json((packaged.folder / SCHEMA_FILE).read_bytes(), SCHEMA_FILE)
    description = (packaged.folder / DESCRIPTION_FILE).read_bytes()
    accepted = jsonschema.Draft202012Validator(json.loads(taken.source))

    def answer(name: str, metadata: Mapping[str, Any]) -> Message:
        if name == RELEASE_INTERACTION:
            return _message(description)
        record = metadata["request"]["contents"]["content"]
        refusal = jsonschema.exceptions.best_match(accepted.iter_errors(record))
        if refusal is not None:
            return _message(json.dumps({"refused": refusal.message}).encode())
        return _message(json.dumps({"probability": score(record)}).encode())

    results = _replay(contract, answer)
    failed = tuple(name for name, result in results.items() if result != "OK")
    misfits = compare(contract.schema, taken)
    if bool(failed) != bool(misfits):
        raise ContractError(
            f"{contract}: pact and proof disagree about {packaged.description.name} "
            f"{packaged.description.version}: {len(failed)} interactions failed "
            f"({'; '.join(failed[:3])}), {len(misfits)} misfits were found; neither is believed"
        )
    return Verification(
        consumer=contract.consumer,
        consumer_version=str(contract.version),
        contract=contract.digest,
        model=packaged.description.name,
        model_version=str(packaged.description.version),
        interactions=len(results),
        failed=failed,
        misfits=misfits,
    )


def _message(content: bytes) -> Message:
    return Message(contents=content, metadata=None, content_type="application/json")


def _replay(
    contract: Contract, answer: Callable[[str, Mapping[str, Any]], Message]
) -> dict[str, str]:
    """Give pact's result for each interaction, by its description."""
    with tempfile.TemporaryDirectory() as folder:
        # given as a file: of a folder, pact passes over what names another provider
        file = Path(folder) / "pact.json"
        file.write_bytes(contract.pact)
        verifier = Verifier(PROVIDER).message_handler(answer).add_source(file)
        with _silence(), suppress(RuntimeError):  # what failed is in the results
            verifier.verify()
    results = {found["description"]: found["result"] for found in _interactions(verifier)}
    expected = len(contract.records) + 1
    if len(results) < expected:
        raise ContractError(
            f"{contract}: expected {expected} verified interactions, got {len(results)}; "
            "a verification that did not finish is no verification"
        )
    return results


def _interactions(verifier: Verifier) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = verifier.results.get("interactionResults", [])
    return found


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what pact and its message server print off the terminal: it is in the results."""
    kept = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nothing, redirect_stderr(nothing):
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            for number, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
