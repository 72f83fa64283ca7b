"""Tests of the schema: what is understood, and what is refused."""

import json
from typing import Any

import pytest

from conftest import INPUT_SCHEMA
from repo_api.errors import FormatError
from repo_api.schema import Schema


def read(document: object) -> Schema:
    return Schema.from_json(json.dumps(document).encode(), "schema.json")


def with_property(**raw: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"age": raw}}


def test_properties_keep_their_order() -> None:
    schema = read(INPUT_SCHEMA)

    names = [known.name for known in schema.properties]

    assert names == ["age_band", "studied_credits", "clicks_28d", "mean_score_28d"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected a schema of type 'object'"),
        ({"type": "array"}, "expected a schema of type 'object'"),
        ({"type": "object"}, "expected properties, got none"),
        ({"type": "object", "properties": {}}, "expected properties, got none"),
        ({**INPUT_SCHEMA, "$schema": "http://json-schema.org/draft-07/schema#"}, r"draft-07"),
        ({**INPUT_SCHEMA, "allOf": []}, "schema.json: keyword 'allOf' is not supported"),
        ({**INPUT_SCHEMA, "required": ["gender"]}, "required: expected names of properties"),
        ({**INPUT_SCHEMA, "required": "age_band"}, "required: expected names of properties"),
        ({**INPUT_SCHEMA, "required": [[]]}, "required: expected names of properties"),
        ({"type": "object", "properties": {"age": True}}, "properties.age: expected an object"),
        (with_property(), "properties.age.type: expected one of"),
        (with_property(type="object"), "properties.age.type: expected one of"),
        (with_property(type="null"), "properties.age.type: expected one of"),
        (with_property(type=["integer", "number"]), "properties.age.type: expected one of"),
        (with_property(type=[{}]), "properties.age.type: expected one of"),
        (with_property(type="integer", multipleOf=2), "properties.age: keyword 'multipleOf'"),
        (with_property(type="integer", enum=[1]), "properties.age: keyword 'enum'"),
        (with_property(type="string"), "properties.age: expected an enum"),
        (with_property(type="string", enum=[]), "properties.age.enum: expected strings"),
        (with_property(type="string", enum=["a", "a"]), "each once"),
        (with_property(type="string", enum=["a", 1]), "properties.age.enum: expected strings"),
        (with_property(type="string", enum=["a", None]), "null in type and in enum"),
        (with_property(type=["string", "null"], enum=["a"]), "null in type and in enum"),
        (with_property(type="integer", minimum="0"), "properties.age.minimum: expected a number"),
        (with_property(type="integer", minimum=None), "properties.age.minimum: expected a number"),
        (with_property(type="integer", maximum=True), "properties.age.maximum: expected a number"),
        (with_property(type="number", maximum=float("nan")), "properties.age.maximum"),
        (with_property(type="integer", maximum=2**63), "expected a number below 2\\*\\*63"),
        (with_property(type="integer", minimum=2, maximum=1), "expected minimum <= maximum"),
    ],
)
def test_what_the_encoding_cannot_express_is_refused_with_its_place(
    document: object, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        read(document)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(FormatError, match=r"schema.json: expected JSON"):
        Schema.from_json(b"\xff", "schema.json")
