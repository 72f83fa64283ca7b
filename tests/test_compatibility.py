"""Tests of the proof: jsonschema itself is the judge of what it says."""

import json
import math
from collections import Counter
from collections.abc import Callable
from importlib import resources
from random import Random
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_api.compatibility import compare
from repo_api.schema import Property, Record, Schema

Document = dict[str, Any]

REQUEST = resources.files("repo_api").joinpath("request_schema.json").read_bytes()
BASE = {
    "highest_education": "No Formal quals",
    "age_band": "0-35",
    "num_of_prev_attempts": 0,
    "studied_credits": 0,
    "clicks_28d": 0,
    "active_days_28d": 0,
}
BOUNDS = st.none() | st.integers(-3, 3) | st.sampled_from([-2.5, -0.3, 0.2, 0.8, 2.5])
MEMBERS = ("a", "b", "c")


def read(document: Document) -> Schema:
    return Schema.from_json(json.dumps(document).encode(), "schema.json")


@st.composite
def properties(draw: st.DrawFn) -> Document:
    kind = draw(st.sampled_from(["integer", "integer", "number", "string", "boolean"]))
    nullable = draw(st.booleans())
    raw: Document = {"type": [kind, "null"] if nullable else kind}
    if kind == "string":
        members: list[str | None] = list(
            draw(st.lists(st.sampled_from(MEMBERS), min_size=1, unique=True))
        )
        raw["enum"] = [*members, None] if nullable else members
    elif kind != "boolean":
        low, high = draw(BOUNDS), draw(BOUNDS)
        if low is not None and high is not None and low > high:
            low, high = high, low
        bounds = {"minimum": low, "maximum": high}
        raw |= {keyword: bound for keyword, bound in bounds.items() if bound is not None}
    return raw


@st.composite
def documents(draw: st.DrawFn) -> Document:
    known = draw(st.dictionaries(st.sampled_from("pqr"), properties(), min_size=1))
    required = draw(st.lists(st.sampled_from(sorted(known)), unique=True))
    return {"type": "object", "properties": known, "required": required}


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Document, Document]:
    """Draw two schemas; mostly the second is the first but for a few properties."""
    sent, other = draw(documents()), draw(documents())
    if draw(st.integers(0, 3)) == 0:
        return sent, other
    taken: Document = json.loads(json.dumps(sent))
    for name in draw(st.sets(st.sampled_from(sorted(sent["properties"])), max_size=1)):
        change = draw(st.sampled_from(["other", "null", "drop", "optional", "wider"]))
        raw = taken["properties"][name]
        if change == "other":
            taken["properties"][name] = draw(properties())
        elif change == "null" and isinstance(raw["type"], str):
            raw["type"] = [raw["type"], "null"]
            if "enum" in raw:
                raw["enum"].append(None)
        elif change == "wider":
            raw.pop("minimum", None)
        elif change == "optional" or len(taken["properties"]) == 1:
            taken["required"] = [n for n in taken["required"] if n != name]
        elif change == "drop":
            del taken["properties"][name]
            taken["required"] = [n for n in taken["required"] if n != name]
    return sent, taken


def random_request(schema: Schema, random: Random) -> Record | None:
    """Draw a request, mostly at the edges of what is allowed; None if there cannot be any."""
    request = {}
    for known in schema.properties:
        values = some_values(known, random)
        if not values and known.required:
            return None
        if values and (known.required or random.random() < 0.7):
            request[known.name] = random.choice(values)
    return request


def some_values(known: Property, random: Random) -> list[object]:
    values: list[object] = [None] if known.nullable else []
    if known.codes is not None:
        return [*values, *known.codes]
    if known.type == "boolean":
        return [*values, False, True]
    low = known.minimum if known.minimum is not None else min(known.maximum or 0, 0) - 1000
    high = known.maximum if known.maximum is not None else max(low, 0) + 1000
    whole = range(math.ceil(low), math.floor(high) + 1)
    if whole:
        values += [whole[0], whole[-1], random.choice(whole), float(whole[0])]
    if known.type == "number":
        values += [low, high, random.uniform(low, high)]
    return values


def refused_for(validator: jsonschema.Draft202012Validator, request: Record) -> set[str]:
    """Name the properties for which a request is refused."""
    found = set()
    for error in validator.iter_errors(request):
        if error.validator == "required":
            found |= {name for name in error.validator_value if name not in request}
        else:
            found.add(str(error.path[0]))
    return found


def test_the_proof_agrees_with_jsonschema() -> None:
    verdicts: Counter[bool] = Counter()

    @settings(max_examples=300, deadline=None)  # a busy machine is no failure
    @given(pairs(), st.integers(0, 2**32))
    def check(pair: tuple[Document, Document], seed: int) -> None:
        random = Random(seed)  # noqa: S311  no secret
        sent, taken = map(read, pair)
        may_be_sent, is_accepted = map(jsonschema.Draft202012Validator, pair)

        misfits = compare(sent, taken)

        verdicts[not misfits] += 1
        for misfit in misfits:
            assert may_be_sent.is_valid(misfit.counterexample)
            assert misfit.property in refused_for(is_accepted, misfit.counterexample)
        for _ in range(30):
            request = random_request(sent, random)
            if request is None:
                assert not misfits
                break
            assert may_be_sent.is_valid(request)
            if not misfits:
                assert is_accepted.is_valid(request)

    check()

    assert min(verdicts[True], verdicts[False]) > 40, verdicts


def require(name: str) -> Callable[[Document], None]:
    return lambda schema: schema["required"].append(name)


def add(name: str, raw: Document) -> Callable[[Document], None]:
    return lambda schema: schema["properties"].update({name: raw})


def change(name: str, **keywords: object) -> Callable[[Document], None]:
    return lambda schema: schema["properties"][name].update(keywords)


def both(*changes: Callable[[Document], None]) -> Callable[[Document], None]:
    def apply(schema: Document) -> None:
        for each in changes:
            each(schema)

    return apply


def remove(name: str) -> Callable[[Document], None]:
    def apply(schema: Document) -> None:
        del schema["properties"][name]
        schema["required"].remove(name)

    return apply


NEW: Document = {"type": "integer", "minimum": 0}
BANDS = ["0-35", "35-55", "55<="]
FITS = {
    "no change": both(),
    "a new optional property": add("forum_posts", NEW),
    "an enum member added": change("age_band", enum=[*BANDS, "75<="]),
    "minimum lowered": change("studied_credits", minimum=-5),
    "maximum raised": change("studied_credits", maximum=2000),
    "integer to number": change("studied_credits", type="number"),
    "null allowed": change("clicks_28d", type=["integer", "null"]),
    "a property removed": remove("clicks_28d"),
    "no longer required": lambda schema: schema["required"].remove("clicks_28d"),
}
BREAKS: list[tuple[str, Callable[[Document], None], str, str, Record]] = [
    (
        "a new required property",
        both(add("forum_posts", NEW), require("forum_posts")),
        "forum_posts",
        "is required and never sent",
        BASE,
    ),
    (
        "an optional property required",
        require("mean_score_28d"),
        "mean_score_28d",
        "is required and may be left out",
        BASE,
    ),
    (
        "an enum member removed",
        change("age_band", enum=BANDS[:2]),
        "age_band",
        "may be '55<=', which is not accepted",
        {**BASE, "age_band": "55<="},
    ),
    (
        "minimum raised",
        change("studied_credits", minimum=5),
        "studied_credits",
        "may be 0, and the least accepted is 5",
        BASE,
    ),
    (
        "maximum lowered",
        change("mean_score_28d", maximum=80),
        "mean_score_28d",
        "may be 100, and the most accepted is 80",
        {**BASE, "mean_score_28d": 100},
    ),
    (
        "number to integer",
        change("mean_score_28d", type=["integer", "null"]),
        "mean_score_28d",
        "is sent as number and accepted as integer",
        {**BASE, "mean_score_28d": 0.5},
    ),
    (
        "null no longer allowed",
        change("mean_score_28d", type="number"),
        "mean_score_28d",
        "may be null, which is not accepted",
        {**BASE, "mean_score_28d": None},
    ),
    (
        "another type",
        change("studied_credits", type="boolean"),
        "studied_credits",
        "is sent as integer and accepted as boolean",
        BASE,
    ),
]


def changed(apply: Callable[[Document], None]) -> Document:
    document: Document = json.loads(REQUEST)
    apply(document)
    if document["properties"].get("studied_credits", {}).get("type") == "boolean":
        for keyword in ("minimum", "maximum"):
            del document["properties"]["studied_credits"][keyword]
    return document


@pytest.mark.parametrize("apply", FITS.values(), ids=FITS.keys())
def test_a_change_that_breaks_nobody_fits(apply: Callable[[Document], None]) -> None:
    sent, document, random = read(json.loads(REQUEST)), changed(apply), Random(7)  # noqa: S311  no secret
    validator = jsonschema.Draft202012Validator(document)

    misfits = compare(sent, read(document))

    assert not misfits
    assert all(validator.is_valid(random_request(sent, random)) for _ in range(1000))


@pytest.mark.parametrize(
    ("apply", "name", "reason", "counterexample"),
    [case[1:] for case in BREAKS],
    ids=[case[0] for case in BREAKS],
)
def test_a_change_that_breaks_a_request_names_property_and_reason_and_shows_it(
    apply: Callable[[Document], None], name: str, reason: str, counterexample: Record
) -> None:
    sent, document = json.loads(REQUEST), changed(apply)

    (misfit,) = compare(read(sent), read(document))

    assert (misfit.property, misfit.reason) == (name, reason)
    assert misfit.counterexample == counterexample
    assert jsonschema.Draft202012Validator(sent).is_valid(counterexample)
    assert not jsonschema.Draft202012Validator(document).is_valid(counterexample)


@pytest.mark.parametrize(
    ("sent", "taken", "reason"),
    [
        ({}, {"minimum": 0}, "may be -1, and the least accepted is 0"),
        ({"maximum": -9}, {"minimum": 0}, "may be -9, and the least accepted is 0"),
        ({}, {"maximum": 2.5}, "may be 3, and the most accepted is 2.5"),
        ({"minimum": 9}, {"maximum": 0}, "may be 9, and the most accepted is 0"),
    ],
)
def test_what_has_no_bound_may_be_beyond_any(sent: Document, taken: Document, reason: str) -> None:
    def schema(bounds: Document) -> Schema:
        return read({"type": "object", "properties": {"n": {"type": "integer", **bounds}}})

    misfits = compare(schema(sent), schema(taken))

    assert [misfit.reason for misfit in misfits] == [reason]


def test_where_no_request_can_be_sent_everything_fits() -> None:
    none: Document = {"type": "integer", "minimum": 0.2, "maximum": 0.8}
    sent: Document = {"type": "object", "properties": {"n": none}, "required": ["n"]}
    taken = {**sent, "properties": {"n": {"type": "boolean"}}}

    assert not compare(read(sent), read(taken))


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [("integer", []), (["integer", "null"], ["may be null, which is not accepted"])],
)
def test_a_property_without_values_can_break_nothing_but_by_null(
    kind: object, reasons: list[str]
) -> None:
    none: Document = {"type": kind, "minimum": 0.2, "maximum": 0.8}
    sent = read({"type": "object", "properties": {"n": none}})

    for wanted in ({"type": "boolean"}, {"type": "integer", "minimum": 5}):
        taken = read({"type": "object", "properties": {"n": wanted}})

        assert [misfit.reason for misfit in compare(sent, taken)] == reasons


@pytest.mark.parametrize("bounds", [(3, 3), (2**60, 2**61)])
def test_a_number_that_is_always_whole_is_an_integer(bounds: tuple[int, int]) -> None:
    number: Document = {"type": "number", "minimum": bounds[0], "maximum": bounds[1]}
    sent = read({"type": "object", "properties": {"n": number}})

    assert not compare(sent, read({"type": "object", "properties": {"n": {"type": "integer"}}}))
