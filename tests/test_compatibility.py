"""Comparing two schemas: its word is held against the jsonschema library's."""

import json
import math
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from conftest import schema_of, shipped
from repo_ml.compatibility import compare
from repo_ml.errors import FormatError
from repo_ml.schema import InputSchema, Property

_BOUNDS = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 2, 3, -1, -2, 0.5, 1.5, -0.5, -1.5, 2.0, 5e-324]),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2.0**60, -1e16, 1e300, -1.7e308, 1.7e308]),
    st.floats(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
)
_KINDS = st.sampled_from(["integer", "number", "number", "integer", "boolean", "string"])
_MEMBERS = st.lists(st.sampled_from(["x", "y", "z", "null", ""]), min_size=1, unique=True)


@st.composite
def _described(draw: st.DrawFn, kind: str | None = None) -> dict[str, Any]:
    """Draw a property; bounds that nothing fits between are left out."""
    kind = kind or draw(_KINDS)
    nullable = draw(st.booleans())
    raw: dict[str, Any] = {"type": [kind, "null"] if nullable else kind}
    if kind == "string":
        raw["enum"] = draw(_MEMBERS) + ([None] if nullable else [])
    if kind in ("integer", "number"):
        low, high = draw(_BOUNDS), draw(_BOUNDS)
        if low is not None and high is not None and low > high:
            low, high = high, low
        bounds = {"minimum": low, "maximum": high}
        bounded = raw | {name: bound for name, bound in bounds.items() if bound is not None}
        raw = bounded if _has_values(bounded) else raw
    return raw


def _has_values(raw: dict[str, Any]) -> bool:
    try:
        schema_of({"a": raw})
    except FormatError:
        return False
    return True


@st.composite
def _changed(draw: st.DrawFn, raw: dict[str, Any]) -> dict[str, Any]:
    """Draw a property that is this one but for a single thing."""
    changed, nullable = dict(raw), isinstance(raw["type"], list)
    kind = raw["type"][0] if nullable else raw["type"]
    if draw(st.integers(0, 7)) == 0:
        changed = draw(_described())
    elif kind == "string":
        changed["enum"] = draw(_MEMBERS) + ([None] if nullable else [])
    elif kind == "boolean":
        changed["type"] = "boolean" if nullable else ["boolean", "null"]
    elif draw(st.booleans()):
        other = "number" if kind == "integer" else "integer"
        changed["type"] = [other, "null"] if nullable else other
    else:
        keyword, bound = draw(st.sampled_from(["minimum", "maximum"])), draw(_BOUNDS)
        if keyword in raw and draw(st.booleans()):
            bound = math.nextafter(raw[keyword], draw(st.sampled_from([math.inf, -math.inf])))
        changed.pop(keyword, None)
        changed |= {} if bound is None or math.isinf(bound) else {keyword: bound}
    return changed if _has_values(changed) else raw


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[InputSchema, InputSchema]:
    """Draw two schemas that differ in little or in nothing."""
    names = ["a", "b", "c"]
    sent = {name: draw(_described()) for name in names[: draw(st.integers(1, 3))]}
    required = {name for name in sent if draw(st.booleans())}
    taken, needed = dict(sent), set(required)
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        what = draw(st.sampled_from(["change", "change", "change", "change", "drop", "require"]))
        if what == "change":
            taken[name] = draw(_changed(taken.get(name) or draw(_described())))
        elif what == "drop" and len(taken) > 1:
            taken.pop(name, None)
        elif what == "require":
            needed ^= {name}
    return (
        schema_of(sent, tuple(sorted(required))),
        schema_of(taken, tuple(sorted(needed & set(taken)))),
    )


def _value(p: Property, random: Random) -> Any:  # noqa: ANN401  # as JSON has it
    """Draw what may be sent for a property, often at its bounds."""
    if p.nullable and random.random() < 0.1:
        return None
    if p.kind == "string":
        return random.choice(p.members)
    if p.kind == "boolean":
        return random.random() < 0.5
    low = -math.inf if p.minimum is None else p.minimum
    high = math.inf if p.maximum is None else p.maximum
    bounds = [bound for bound in (low, high) if math.isfinite(bound)]
    number = random.choice(
        [
            random.choice([0, 0.5, -0.5, 1.0, -2.0, 2.0**53, -(2.0**53), 10**300, -(10**300)]),
            random.uniform(-4, 4),
            random.randint(-(2**70), 2**70),
            random.choice(bounds or [0]),
            random.choice(bounds or [0]) + random.uniform(-2, 2),
        ]
    )
    if p.kind == "number":
        return min(max(number, low), high)
    least = low if low == -math.inf else math.ceil(low)
    most = high if high == math.inf else math.floor(high)
    return min(max(math.floor(number), least), most)


def _record(schema: InputSchema, random: Random) -> dict[str, Any]:
    sent = [p for p in schema.properties if p.required or random.random() < 0.7]
    return {p.name: _value(p, random) for p in sent}


def _validator(schema: InputSchema) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema.source))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(_pairs(), st.integers(0, 2**32))
def test_compare_agrees_with_jsonschema(pair: tuple[InputSchema, InputSchema], seed: int) -> None:
    (sent, taken), random = pair, Random(seed)  # noqa: S311  # no secrets here
    takes, sends = _validator(taken), _validator(sent)

    misfits = compare(sent, taken)

    event("misfits" if misfits else "fits")
    for misfit in misfits:
        record = json.loads(json.dumps(misfit.counterexample))
        assert sends.is_valid(record), misfit
        assert not takes.is_valid(record), misfit
    for _ in range(25):
        record = _record(sent, random)
        assert sends.is_valid(record)
        assert misfits or takes.is_valid(record)


def _one(sent: dict[str, Any], taken: dict[str, Any]) -> list[tuple[str, Any]]:
    found = compare(schema_of({"a": sent}), schema_of({"a": taken}))
    return [(misfit.reason, misfit.counterexample["a"]) for misfit in found]


@pytest.mark.parametrize("number", [1, 2])
def test_every_schema_takes_its_own_records(number: int) -> None:
    misfits = compare(shipped(number), shipped(number))

    assert misfits == ()


def test_a_consumer_of_v2_fits_v1() -> None:
    misfits = compare(shipped(2), shipped(1))

    assert misfits == ()


def test_a_consumer_of_v1_never_sends_what_v2_requires() -> None:
    misfits = compare(shipped(1), shipped(2))

    assert [(m.property, m.reason) for m in misfits] == [
        ("clicks_28d", "is required and never sent"),
        ("active_days_28d", "is required and never sent"),
    ]


def test_counterexample_holds_the_required_properties_and_the_one_at_fault() -> None:
    sent = schema_of(
        {"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "boolean"}}, ("b",)
    )
    taken = schema_of({"a": {"type": "integer", "maximum": 7}})

    (misfit,) = compare(sent, taken)

    assert misfit.counterexample == {"a": 8, "b": False}


def test_what_may_be_left_out_is_left_out_of_the_counterexample() -> None:
    sent = schema_of({"a": {"type": "integer"}, "b": {"type": "integer"}}, ("b",))
    taken = schema_of({"a": {"type": "integer"}, "b": {"type": "integer"}}, ("a", "b"))

    (misfit,) = compare(sent, taken)

    assert misfit.reason == "is required and may be left out"
    assert misfit.counterexample == {"b": 0}


@pytest.mark.parametrize(
    ("sent", "taken", "found"),
    [
        (
            {"type": ["integer", "null"]},
            {"type": "integer"},
            [("may be null, which is not accepted", None)],
        ),
        (
            {"type": "boolean"},
            {"type": "integer"},
            [("is sent as boolean and accepted as integer", False)],
        ),
        (
            {"type": "string", "enum": ["x", "y"]},
            {"type": "string", "enum": ["y", "z"]},
            [("may be 'x', which is not accepted", "x")],
        ),
        (
            {"type": "integer", "minimum": 0, "maximum": 9},
            {"type": "integer", "minimum": 1, "maximum": 8},
            [
                ("may be 0, and the least accepted is 1", 0),
                ("may be 9, and the most accepted is 8", 9),
            ],
        ),
        (
            {"type": "number"},
            {"type": "integer"},
            [("is sent as number and accepted as integer", 0.5)],
        ),
        (
            {"type": "number", "minimum": -(2.0**60)},
            {"type": "integer"},
            [("is sent as number and accepted as integer", 0.5)],
        ),
        ({"type": "number", "minimum": 2.0**53}, {"type": "integer"}, []),
        ({"type": "number", "minimum": 3, "maximum": 3}, {"type": "integer"}, []),
        ({"type": "integer", "minimum": 0.5}, {"type": "integer", "minimum": 1}, []),
        ({"type": "integer", "maximum": 9.5}, {"type": "number", "maximum": 9}, []),
        (
            {"type": "integer", "maximum": 1},
            {"type": "integer", "minimum": 5},
            [("may be 1, and the least accepted is 5", 1)],
        ),
        (
            {"type": "integer", "minimum": 9},
            {"type": "integer", "maximum": 5},
            [("may be 9, and the most accepted is 5", 9)],
        ),
    ],
)
def test_misfit_of_values(
    sent: dict[str, Any], taken: dict[str, Any], found: list[tuple[str, Any]]
) -> None:
    assert _one(sent, taken) == found
