"""Contracts as a consumer would write them, made from a request schema."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from repo_ml.contract import Contract
from repo_ml.schema import InputSchema

CONSUMER = "repo-api"
PACT = "repo-api-repo-ml.json"
SCHEMA = "request.schema.json"
JSON = "application/json"


def files_of(schema: InputSchema) -> dict[str, bytes]:
    """Write the two files of a contract."""
    pact = {
        "consumer": {"name": CONSUMER},
        "provider": {"name": "repo-ml"},
        "interactions": [_release(), *(_request(case, record) for case, record in _cases(schema))],
        "metadata": {"pactSpecification": {"version": "4.0"}},
    }
    return {PACT: json.dumps(pact).encode(), SCHEMA: schema.source}


def contract_of(schema: InputSchema, version: str = "2.0.0") -> Contract:
    """Read the contract that `files_of` writes."""
    return Contract.from_files(files_of(schema), CONSUMER, version, None)


def write_contract(schema: InputSchema, folder: Path, version: str) -> None:
    """Write a contract where a folder of contracts has it."""
    place = folder / CONSUMER / version
    place.mkdir(parents=True)
    for name, content in files_of(schema).items():
        (place / name).write_bytes(content)


def _release() -> dict[str, Any]:
    return {
        "type": "Asynchronous/Messages",
        "description": "a model release",
        "contents": {"content": {"name": "churn-model"}, "contentType": JSON, "encoded": False},
        "metadata": {"contentType": JSON},
        "pending": False,
    }


def _request(case: str, record: Mapping[str, Any]) -> dict[str, Any]:
    answer = {"content": {"probability": 0.5}, "contentType": JSON, "encoded": False}
    rules = {"body": {"$.probability": {"combine": "AND", "matchers": [{"match": "number"}]}}}
    return {
        "type": "Synchronous/Messages",
        "description": f"a request to score a learner: {case}",
        "request": {
            "contents": {"content": record, "contentType": JSON, "encoded": False},
            "metadata": {"contentType": JSON},
        },
        "response": [
            {"contents": answer, "matchingRules": rules, "metadata": {"contentType": JSON}}
        ],
        "pending": False,
    }


def _cases(schema: InputSchema) -> Iterator[tuple[str, dict[str, Any]]]:
    raw = json.loads(schema.source)
    everything = {
        name: (p.get("examples") or [p.get("minimum", True)])[0]
        for name, p in raw["properties"].items()
    }
    least = {name: everything[name] for name in raw.get("required", [])}
    yield "all properties", everything
    yield "only the required ones", least
    for p in schema.properties:
        values: list[Any] = [*p.members, p.minimum, p.maximum]
        values = [value for value in values if value is not None]
        if p.kind == "number":
            values.append((values or [0])[0] + 0.5)
        for value in [*values, *([None] if p.nullable else [])]:
            yield f"{p.name} is {json.dumps(value)}", least | {p.name: value}
