"""The input schema: what it refuses, and how records become numbers."""

import json
import math
from typing import Any

import jsonschema
import numpy as np
import pytest

from conftest import schema_of, shipped
from repo_ml.errors import FormatError
from repo_ml.schema import InputSchema

_NUMBER = {"type": "number"}


@pytest.mark.parametrize("number", [1, 2])
def test_shipped_schemas_are_json_schemas(number: int) -> None:
    raw = json.loads(shipped(number).source)

    jsonschema.Draft202012Validator.check_schema(raw)


def test_schema_keeps_the_order_of_its_properties() -> None:
    schema = schema_of({"z": _NUMBER, "a": _NUMBER, "m": _NUMBER})

    names = [p.name for p in schema.properties]

    assert names == ["z", "a", "m"]


def test_encode_gives_positions_zeros_and_ones_and_numbers() -> None:
    schema = schema_of(
        {
            "plan": {"type": "string", "enum": ["basic", "plus", "pro"]},
            "paperless": {"type": "boolean"},
            "months": {"type": "integer"},
            "charge": {"type": "number"},
        }
    )

    rows = schema.encode([{"charge": 9.5, "months": 3, "paperless": True, "plan": "pro"}])

    assert rows.tolist() == [[2.0, 1.0, 3.0, 9.5]]
    assert rows.dtype == np.float64


def test_encode_gives_nan_for_absent_and_null() -> None:
    schema = schema_of({"a": {"type": ["number", "null"]}, "b": _NUMBER})

    rows = schema.encode([{"a": None}])

    assert np.isnan(rows).tolist() == [[True, True]]


def test_encode_ignores_properties_that_the_schema_does_not_know() -> None:
    schema = schema_of({"a": _NUMBER})

    rows = schema.encode([{"a": 1, "unknown": "x"}])

    assert rows.tolist() == [[1.0]]


def test_encode_of_no_records_still_has_its_columns() -> None:
    schema = schema_of({"a": _NUMBER, "b": _NUMBER})

    rows = schema.encode([])

    assert rows.shape == (0, 2)


def test_null_in_an_enum_is_no_member_and_counts_as_a_position() -> None:
    schema = schema_of({"a": {"type": ["string", "null"], "enum": ["x", None, "y"]}})

    (property_,) = schema.properties

    assert property_.members == ("x", "y")
    assert property_.encode("y") == 2
    assert math.isnan(property_.encode(None))


def test_differences_are_named_and_titles_are_none() -> None:
    before = schema_of({"a": {**_NUMBER, "title": "A"}, "b": _NUMBER, "gone": _NUMBER})
    now = schema_of({"a": {**_NUMBER, "title": "Other"}, "b": {"type": "integer"}, "new": _NUMBER})

    names = before.differences(now)

    assert names == ["b", "gone", "new"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[]", '"type": "object"'),
        (b"{}", '"type": "object"'),
        (b'{"type": "array"}', '"type": "object"'),
        (b'{"type": "object"}', "at least one property"),
        (b'{"type": "object", "properties": {}}', "at least one property"),
        (b'{"type": "object", "properties": {"a": 1}}', "an object at /properties/a"),
    ],
)
def test_what_is_no_flat_object_schema_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(FormatError, match=reason) as refused:
        InputSchema.from_json(content, "own.json")

    assert str(refused.value).startswith("own.json: ")


def test_unknown_keyword_at_the_root_is_refused() -> None:
    raw = {"type": "object", "properties": {"a": _NUMBER}, "additionalProperties": False}

    with pytest.raises(FormatError, match=r"'additionalProperties' at / is not supported"):
        InputSchema.from_json(json.dumps(raw).encode(), "own.json")


@pytest.mark.parametrize("required", ["a", ["unknown"], [["a"]], 1])
def test_required_that_lists_no_properties_is_refused(required: object) -> None:
    raw = {"type": "object", "properties": {"a": _NUMBER}, "required": required}

    with pytest.raises(FormatError, match="expected /required to list"):
        InputSchema.from_json(json.dumps(raw).encode(), "own.json")


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ({"type": "number", "multipleOf": 2}, "'multipleOf' at /properties/a is not supported"),
        ({"type": "string", "enum": ["x"], "minimum": 1}, "'minimum' at /properties/a"),
        ({"type": "boolean", "minimum": 0}, "'minimum' at /properties/a"),
        ({"type": "integer", "enum": [1, 2]}, "'enum' at /properties/a"),
        ({}, "expected one type"),
        ({"type": 5}, "expected one type"),
        ({"type": []}, "expected one type"),
        ({"type": [["number"]]}, "expected one type"),
        ({"type": "null"}, "expected one type"),
        ({"type": ["integer", "string"]}, "expected one type"),
        ({"type": "array"}, "type 'array' at /properties/a/type is not supported"),
        ({"type": "string"}, "expected strings at /properties/a/enum"),
        ({"type": "string", "enum": []}, "expected strings"),
        ({"type": "string", "enum": "x"}, "expected strings"),
        ({"type": "string", "enum": ["x", 1]}, "expected strings"),
        ({"type": "string", "enum": ["x", "x"]}, "different strings"),
        ({"type": "string", "enum": [str(n) for n in range(256)]}, "at most 255"),
        ({"type": "string", "enum": ["x", None]}, "expected null"),
        ({"type": ["string", "null"], "enum": ["x"]}, "expected null"),
        ({"type": "number", "minimum": "1"}, "a finite number at /properties/a/minimum"),
        ({"type": "number", "maximum": None}, "a finite number at /properties/a/maximum"),
        ({"type": "number", "maximum": True}, "a finite number at /properties/a/maximum"),
        ({"type": "number", "maximum": math.inf}, "a finite number"),
        ({"type": "number", "maximum": math.nan}, "a finite number"),
        ({"type": "integer", "minimum": -(10**400)}, "a finite number"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "no number fits the bounds"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "no integer fits the bounds"),
    ],
)
def test_property_that_cannot_be_encoded_is_refused(described: Any, reason: str) -> None:  # noqa: ANN401  # as JSON has it
    with pytest.raises(FormatError, match=reason):
        schema_of({"a": described})
