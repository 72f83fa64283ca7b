"""Tests of the reading of records: it agrees with JSON Schema, and says what is wrong.

And of their encoding.
"""

import json
from importlib import resources
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import GOLDEN_INPUTS, GOLDEN_ROWS, INPUT_SCHEMA
from repo_api.errors import InputError, JsonError
from repo_api.records import MAX_BATCH, RecordReader
from repo_api.schema import Schema

REQUEST_SCHEMA = Schema.from_json(
    resources.files("repo_api").joinpath("request_schema.json").read_bytes(), "request_schema.json"
)
RECORD = {name: raw["examples"][0] for name, raw in REQUEST_SCHEMA.document["properties"].items()}
READER = RecordReader(REQUEST_SCHEMA, REQUEST_SCHEMA)
VALIDATOR = jsonschema.Draft202012Validator(REQUEST_SCHEMA.document)

texts = st.text('ab0. \u00e9\n"\\', max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-800, 800)
    | st.integers(0, 60).map(float)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["Lower Than A Level", "10-20%", "35-55"])
)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars, max_size=2)
changes = st.dictionaries(st.sampled_from([*RECORD, "gender", ""]), values, max_size=3)


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def schema(document: object) -> Schema:
    return Schema.from_json(encoded(document), "schema.json")


def reader_of(document: object) -> RecordReader:
    """Make a reader for a model that takes what the requests say."""
    return RecordReader(schema(document), schema(document))


ROW = READER.one(encoded(RECORD))


def problem(body: bytes) -> tuple[str, str]:
    with pytest.raises(InputError) as refusal:
        READER.one(body)
    assert len(refusal.value.problems) == 1
    return refusal.value.problems[0]


@settings(deadline=None)  # a busy machine is no failure
@given(changes, st.sets(st.sampled_from([*RECORD]), max_size=2))
def test_a_record_is_read_if_and_only_if_it_fits_the_schema(
    changed: dict[str, Any], dropped: set[str]
) -> None:
    record = {name: value for name, value in (RECORD | changed).items() if name not in dropped}

    try:
        READER.one(encoded(record))
        fits = True
    except InputError:
        fits = False

    assert fits == VALIDATOR.is_valid(record)


@settings(deadline=None)  # a busy machine is no failure
@given(values)
def test_any_json_is_read_or_refused(value: object) -> None:
    for read in (READER.one, READER.many):
        with pytest.raises(InputError):
            read(encoded(value))


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(InputError):
        READER.one(body)


@settings(deadline=None)  # a busy machine is no failure
@given(
    st.sampled_from(["integer", "number"]),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e9, 1e9),
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-1e9, 1e9),
    st.integers(-(2**62), 2**62) | st.floats(-1e9, 1e9),
)
def test_any_bounds_are_those_of_the_schema(
    kind: str, low: float | None, high: float | None, value: float
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    bounds = {"minimum": low, "maximum": high}
    given_bounds = {keyword: bound for keyword, bound in bounds.items() if bound is not None}
    document = {"type": "object", "properties": {"it": {"type": kind, **given_bounds}}}
    reader = reader_of(document)

    try:
        reader.one(encoded({"it": value}))
        fits = True
    except InputError:
        fits = False

    assert fits == jsonschema.Draft202012Validator(document).is_valid({"it": value})


def test_a_name_may_be_any_text() -> None:
    document = {"type": "object", "properties": {"Tenure (months) `é`": {"type": "integer"}}}
    reader = reader_of(document)

    for body in ('{"Tenure (months) `é`": 3}', r'{"Tenure (months) `\u00e9`": 3}'):
        assert reader.one(body.encode()) == [3]
        assert reader.many(f"[{body}]".encode()) == [[3]]
    with pytest.raises(InputError) as refusal:
        reader.one(encoded({"Tenure (months) `é`": "a"}))
    assert refusal.value.problems == (("Tenure (months) `é`", "expected integer, got string"),)


def test_an_integer_may_be_written_with_a_zero_fraction() -> None:
    assert READER.one(encoded({**RECORD, "clicks_28d": 180.0})) == ROW


@pytest.mark.parametrize(
    ("changed", "field", "reason"),
    [
        ({"clicks_28d": -1}, "clicks_28d", "expected integer >= 0"),
        ({"clicks_28d": 1.5}, "clicks_28d", "expected integer, got number"),
        ({"clicks_28d": None}, "clicks_28d", "expected integer, got null"),
        ({"mean_score_28d": "a"}, "mean_score_28d", "expected number | null, got string"),
        ({"age_band": "x"}, "age_band", "expected one of '0-35', '35-55', '55<=', got 'x'"),
        ({"age_band": True}, "age_band", "expected string, got boolean"),
    ],
)
def test_a_refusal_names_the_field_and_the_reason(
    changed: dict[str, Any], field: str, reason: str
) -> None:
    assert problem(encoded({**RECORD, **changed})) == (field, reason)


def test_a_missing_field_is_named() -> None:
    assert problem(b"{}") == ("highest_education", "required, not given")


def test_what_is_no_object_is_refused_as_a_whole() -> None:
    assert problem(b"[1]") == ("(body)", "expected object, got array")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"{} {}", b"\xff", b"{'a': 1}", b'{"clicks_28d": NaN}', b"[" * 100_000]
)
def test_what_is_no_json_is_told_apart_from_what_does_not_fit(body: bytes) -> None:
    with pytest.raises(JsonError):
        READER.one(body)
    with pytest.raises(JsonError):
        READER.many(body)


def test_many_names_the_record_and_the_field() -> None:
    bodies = (encoded([RECORD, {**RECORD, "clicks_28d": -1}]), encoded([RECORD, {}]), b"[1]", b"1")

    problems: list[tuple[str, str]] = []
    for body in bodies:
        with pytest.raises(InputError) as refusal:
            READER.many(body)
        problems += refusal.value.problems

    assert [field for field, _ in problems] == [
        "[1].clicks_28d",
        "[1].highest_education",
        "[0]",
        "(body)",
    ]


def test_many_reads_at_least_one_record_and_at_most_a_thousand() -> None:
    assert len(READER.many(encoded([RECORD] * MAX_BATCH))) == MAX_BATCH
    assert READER.many(encoded([{**RECORD, "clicks_28d": 180.0}])) == [ROW]
    for body in (b"[]", encoded([RECORD] * (MAX_BATCH + 1))):
        with pytest.raises(InputError, match="expected array of length"):
            READER.many(body)


def test_a_property_that_is_not_known_is_dropped() -> None:
    assert READER.one(msgspec.json.encode({**RECORD, "gender": "F"})) == ROW


def test_a_boolean_is_true_or_false_and_nothing_else() -> None:
    document = {"type": "object", "properties": {"paid": {"type": "boolean"}}}
    reader = reader_of(document)

    assert reader.one(b'{"paid": true}') == [True]
    with pytest.raises(InputError, match=r"^paid: expected boolean, got integer$"):
        reader.one(b'{"paid": 1}')


def test_a_row_has_positions_numbers_and_gaps() -> None:
    rows = [reader_of(INPUT_SCHEMA).check(record) for record in GOLDEN_INPUTS]

    np.testing.assert_array_equal(np.array(rows, np.float64), np.array(GOLDEN_ROWS))


def test_a_boolean_is_0_or_1_and_an_absent_one_is_nan() -> None:
    reader = reader_of({"type": "object", "properties": {"paid": {"type": "boolean"}}})

    rows = reader.many(b'[{"paid": false}, {"paid": true}, {}]')

    np.testing.assert_array_equal(np.array(rows, np.float64), [[0], [1], [np.nan]])


def test_the_position_of_a_member_counts_null() -> None:
    member = {"type": ["string", "null"], "enum": [None, "young", "old"]}
    reader = reader_of({"type": "object", "properties": {"age": member}})

    assert reader.many(b'[{"age": "old"}, {"age": null}]') == [[2], [None]]


def test_a_row_has_the_columns_of_the_model_in_its_order() -> None:
    request = {"type": "object", "properties": {n: {"type": "integer"} for n in "abc"}}
    model = {"type": "object", "properties": {n: {"type": "integer"} for n in "cxa"}}

    row = RecordReader(schema(request), schema(model)).one(b'{"a": 1, "b": 2, "c": 3, "x": 4}')

    assert row == [3, None, 1]


def test_a_record_without_what_the_model_requires_is_refused() -> None:
    optional = schema({**INPUT_SCHEMA, "required": []})

    with pytest.raises(InputError, match=r"^clicks_28d: the model requires it$"):
        RecordReader(optional, schema(INPUT_SCHEMA)).check(
            {name: value for name, value in GOLDEN_INPUTS[1].items() if name != "clicks_28d"}
        )


def test_a_member_that_the_model_does_not_know_is_refused() -> None:
    wider = json.loads(encoded(INPUT_SCHEMA))
    wider["properties"]["age_band"]["enum"].append("56+")

    with pytest.raises(InputError, match=r"^age_band: the model does not know '56\+'$"):
        RecordReader(schema(wider), schema(INPUT_SCHEMA)).check(
            {**GOLDEN_INPUTS[1], "age_band": "56+"}
        )


def test_of_two_equal_members_the_one_that_the_model_does_not_know_is_named() -> None:
    wide, narrow = ({"type": "string", "enum": each} for each in (["yes", "no"], ["no"]))
    request = {"type": "object", "properties": {"a": wide, "b": wide}}
    model = {"type": "object", "properties": {"a": wide, "b": narrow}}

    with pytest.raises(InputError, match=r"^b: the model does not know 'yes'$"):
        RecordReader(schema(request), schema(model)).one(b'{"a": "yes", "b": "yes"}')
