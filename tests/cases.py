"""Owns the cases of the contract: the records that stand for all that a request schema allows.

What is done with them is left to `test_contract`; pact is not known here.
"""

import json
import math
from collections.abc import Iterator

from repo_api.schema import Property, Record, Schema


def cases(schema: Schema) -> Iterator[tuple[str, Record]]:
    """Derive records and what each shows: every one is a request that the API may send.

    All properties, only the required ones, every enum member, every null,
    and both ends of every bound; a case of one property has the required
    ones beside it.
    """
    examples = {known.name: _example(known, schema) for known in schema.properties}
    base = {known.name: examples[known.name] for known in schema.properties if known.required}
    yield "all properties", examples
    yield "only the required ones", base
    for known in schema.properties:
        for case, value in _values(known, examples[known.name]):
            yield f"{known.name} {case}", {**base, known.name: value}


def _values(known: Property, example: object) -> Iterator[tuple[str, object]]:
    for member in known.codes or ():
        yield f"is {member}", member
    if known.type == "boolean":
        for truth in (False, True):
            yield f"is {json.dumps(truth)}", truth
    if known.nullable:
        yield "is null", None
    low, high = _bounds(known)
    for end, value in (("minimum", low), ("maximum", high)):
        if value is not None:
            yield f"at its {end} {value}", value
    if known.type == "number" and not any(_is_fractional(value) for value in (example, low, high)):
        whole = low if low is not None else 0 if high is None else high - 1
        fraction = whole + 0.5
        if high is None or fraction < high:
            yield f"is {fraction}", fraction


def _example(known: Property, schema: Schema) -> object:
    """Take the first example of the schema, or a value near 0."""
    for example in schema.document["properties"][known.name].get("examples", ()):
        return example
    if known.codes:
        return next(iter(known.codes))
    if known.type == "boolean":
        return False
    low, high = _bounds(known)
    return min(max(0, -math.inf if low is None else low), math.inf if high is None else high)


def _bounds(known: Property) -> tuple[float | None, float | None]:
    """Give the least and the greatest value: those of an integer are whole."""
    low, high = known.minimum, known.maximum
    if known.type != "integer":
        return low, high
    return low if low is None else math.ceil(low), high if high is None else math.floor(high)


def _is_fractional(value: object) -> bool:
    return isinstance(value, float) and not value.is_integer()
