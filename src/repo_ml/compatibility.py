"""Owns the proof that one schema's every record is a record of another's; pure functions only."""

import math
from collections.abc import Iterator

from repo_ml.errors import Misfit
from repo_ml.schema import InputSchema, Property


def compare(sent: InputSchema, taken: InputSchema) -> tuple[Misfit, ...]:
    """Find every way in which a record of `sent` can be none of `taken`.

    Nothing found is a proof: each property that `taken` knows is compared as
    a set of values, and a property that it does not know is ignored by it.
    What is found comes with the smallest record that shows it: the required
    properties of `sent` and the one at fault.

    Args:
        sent: What may be sent, as a schema.
        taken: What is accepted, as a schema.
    """
    base = {p.name: _some_value(p) for p in sent.properties if p.required}
    misfits = []
    for wanted in taken.properties:
        offered = sent.find(wanted.name)
        if offered is None:
            if wanted.required:
                misfits.append(Misfit(wanted.name, "is required and never sent", base))
            continue
        if wanted.required and not offered.required:
            without = {name: value for name, value in base.items() if name != wanted.name}
            misfits.append(Misfit(wanted.name, "is required and may be left out", without))
        misfits.extend(
            Misfit(wanted.name, reason, {**base, wanted.name: value})
            for reason, value in _values_outside(offered, wanted)
        )
    return tuple(misfits)


def _some_value(p: Property) -> object:
    if p.kind == "string":
        return p.members[0]
    if p.kind == "boolean":
        return False
    low = -math.inf if p.minimum is None else p.minimum
    high = math.inf if p.maximum is None else p.maximum
    nearest_zero = min(max(0, low), high)
    if p.kind == "integer":
        return math.ceil(nearest_zero) if nearest_zero > 0 else math.floor(nearest_zero)
    return nearest_zero


def _values_outside(offered: Property, wanted: Property) -> Iterator[tuple[str, object]]:
    if offered.nullable and not wanted.nullable:
        yield "may be null, which is not accepted", None
    numeric = ("integer", "number")
    if offered.kind != wanted.kind and not (offered.kind in numeric and wanted.kind in numeric):
        yield f"is sent as {offered.kind} and accepted as {wanted.kind}", _some_value(offered)
        return
    for member in offered.members:
        if member not in wanted.members:
            yield f"may be {member!r}, which is not accepted", member
    if offered.kind == "number" and wanted.kind == "integer":
        fraction = _fraction(offered)
        if fraction is not None:
            yield "is sent as number and accepted as integer", fraction
    low = _below(offered, wanted)
    if low is not None:
        yield f"may be {low}, and the least accepted is {wanted.minimum}", low
    high = _above(offered, wanted)
    if high is not None:
        yield f"may be {high}, and the most accepted is {wanted.maximum}", high


def _fraction(p: Property) -> float | None:
    """Find a number between the bounds that is not whole.

    The value nearest to zero and its neighbours are enough to try: floats lie
    closest there, and from 2 to the 52nd on all are whole.
    """
    low = -math.inf if p.minimum is None else p.minimum
    high = math.inf if p.maximum is None else p.maximum
    near = float(min(max(0, low), high))
    neighbours = (math.nextafter(near, -math.inf), math.nextafter(near, math.inf))
    for candidate in (near, near + 0.5, near - 0.5, *neighbours):
        if low <= candidate <= high and not candidate.is_integer():
            return candidate
    return None


def _below(offered: Property, wanted: Property) -> float | None:
    """Find the least value that may be sent, if it is below what is accepted."""
    if wanted.minimum is None:
        return None
    if offered.minimum is not None:
        least = math.ceil(offered.minimum) if offered.kind == "integer" else offered.minimum
        return least if least < wanted.minimum else None
    highest = math.inf if offered.maximum is None else offered.maximum
    below = math.ceil(wanted.minimum) - 1
    return min(below, math.floor(highest)) if highest != math.inf else below


def _above(offered: Property, wanted: Property) -> float | None:
    """Find the greatest value that may be sent, if it is above what is accepted."""
    if wanted.maximum is None:
        return None
    if offered.maximum is not None:
        greatest = math.floor(offered.maximum) if offered.kind == "integer" else offered.maximum
        return greatest if greatest > wanted.maximum else None
    lowest = -math.inf if offered.minimum is None else offered.minimum
    above = math.floor(wanted.maximum) + 1
    return max(above, math.ceil(lowest)) if lowest != -math.inf else above
