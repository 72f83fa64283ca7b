"""Tests of the cases of the contract: they are requests, and none that matters is missing."""

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest

from cases import cases
from repo_api.schema import Schema

REQUEST = resources.files("repo_api").joinpath("request_schema.json").read_bytes()


def derive(**properties: object) -> dict[str, Any]:
    document = {"type": "object", "properties": properties, "required": ["n"]}
    return dict(cases(Schema.from_json(json.dumps(document).encode(), "schema.json")))


def test_every_case_is_a_request_that_may_be_sent() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(REQUEST))

    derived = list(cases(Schema.from_json(REQUEST, "request_schema.json")))

    assert all(validator.is_valid(record) for _, record in derived)
    assert len(dict(derived)) == len(derived) == 41


def test_the_first_cases_are_all_properties_and_only_the_required_ones() -> None:
    derived = derive(n={"type": "integer", "examples": [7]}, other={"type": "boolean"})

    assert derived == {
        "all properties": {"n": 7, "other": False},
        "only the required ones": {"n": 7},
        "other is false": {"n": 7, "other": False},
        "other is true": {"n": 7, "other": True},
    }


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"type": "string", "enum": ["a", "b"]}, {"it is a": "a", "it is b": "b"}),
        ({"type": ["boolean", "null"]}, {"it is null": None}),
        (
            {"type": "integer", "minimum": -2.5, "maximum": 3},
            {"it at its minimum -2": -2, "it at its maximum 3": 3},
        ),
        ({"type": "number", "minimum": 0}, {"it at its minimum 0": 0, "it is 0.5": 0.5}),
        ({"type": "number", "maximum": 3}, {"it at its maximum 3": 3, "it is 2.5": 2.5}),
        ({"type": "number"}, {"it is 0.5": 0.5}),
    ],
)
def test_every_member_null_and_bound_has_a_case_beside_what_is_required(
    raw: dict[str, Any], expected: dict[str, Any]
) -> None:
    derived = derive(n={"type": "integer"}, it=raw)

    for case, value in expected.items():
        assert derived[case] == {"n": 0, "it": value}


@pytest.mark.parametrize(
    "raw",
    [
        {"type": "number", "examples": [74.5]},
        {"type": "number", "minimum": 0.5},
        {"type": "number", "minimum": 3, "maximum": 3},
    ],
)
def test_a_number_that_is_fractional_already_or_cannot_be_needs_no_case_of_its_own(
    raw: dict[str, Any],
) -> None:
    assert not [case for case in derive(n={"type": "integer"}, it=raw) if case.startswith("it is")]
