"""Owns the proof that every request which this API can send is one that a model accepts.

Pure: where the two schemas come from, and what follows from the proof, is left to others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from repo_api.schema import Property, Record, Schema

_NUMERIC = ("integer", "number")


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way in which a request that may be sent is not accepted, and a request that shows it."""

    property: str
    reason: str
    counterexample: Record

    def __str__(self) -> str:
        """Name the property and the reason."""
        return f"{self.property} {self.reason}"


def compare(sent: Schema, taken: Schema) -> tuple[Misfit, ...]:
    """Find every way in which a request of `sent` is none of `taken`.

    Nothing found is a proof: every property that `taken` knows is compared as
    a set of values; one that it does not know is ignored by the model, and
    one that `sent` does not know is dropped by `records` and never sent.

    Every counter-example is a request of `sent` that `taken` refuses for that
    property: the required properties and, where it must be there, that one.

    Args:
        sent: What this API sends.
        taken: What the model accepts.
    """
    offers = {offered.name: offered for offered in sent.properties}
    required = [offered for offered in sent.properties if offered.required]
    if not all(offered.nullable or _has_values(offered) for offered in required):
        return ()  # no request can be sent at all
    base = {offered.name: _some_value(offered) for offered in required}
    misfits = []
    for wanted in taken.properties:
        offered = offers.get(wanted.name)
        if wanted.required and offered is None:
            misfits.append(Misfit(wanted.name, "is required and never sent", base))
        if offered is None:
            continue
        if wanted.required and not offered.required:
            misfits.append(Misfit(wanted.name, "is required and may be left out", base))
        misfits.extend(
            Misfit(wanted.name, reason, {**base, wanted.name: value})
            for reason, value in _refused(offered, wanted)
        )
    return tuple(misfits)


def _refused(offered: Property, wanted: Property) -> Iterator[tuple[str, object]]:
    """Give a value for every reason for which one that is offered is not wanted."""
    if offered.nullable and not wanted.nullable:
        yield "may be null, which is not accepted", None
    if not _has_values(offered):
        return
    other_type = f"is sent as {offered.type} and accepted as {wanted.type}"
    if offered.type in _NUMERIC and wanted.type in _NUMERIC:
        if offered.type == "number" and wanted.type == "integer":
            for fraction in _fractions(offered):
                yield other_type, fraction
        yield from _out_of_bounds(offered, wanted)
    elif offered.type != wanted.type:
        yield other_type, _some_value(offered)
    elif offered.codes is not None and wanted.codes is not None:
        for member in offered.codes:
            if member not in wanted.codes:
                yield f"may be {member!r}, which is not accepted", member


def _out_of_bounds(offered: Property, wanted: Property) -> Iterator[tuple[str, object]]:
    """Give the extreme value that is offered, or the next one beyond the bound if there is none."""
    low, high = _bounds(offered)
    if wanted.minimum is not None:
        below = min(math.ceil(wanted.minimum) - 1, high) if low == -math.inf else low
        if below < wanted.minimum:
            yield f"may be {below}, and the least accepted is {wanted.minimum}", below
    if wanted.maximum is not None:
        above = max(math.floor(wanted.maximum) + 1, low) if high == math.inf else high
        if above > wanted.maximum:
            yield f"may be {above}, and the most accepted is {wanted.maximum}", above


def _bounds(known: Property) -> tuple[float, float]:
    """Give the least and the greatest value; those of an integer are whole."""
    low = -math.inf if known.minimum is None else known.minimum
    high = math.inf if known.maximum is None else known.maximum
    if known.type == "integer":
        low = low if low == -math.inf else math.ceil(low)
        high = high if high == math.inf else math.floor(high)
    return low, high


def _has_values(known: Property) -> bool:
    """Tell whether any value but null fits: no integer lies between 0.2 and 0.8."""
    low, high = _bounds(known)
    return low <= high


def _some_value(known: Property) -> object:
    """Give the first member of an enum, false, or the number nearest to 0; else null."""
    if not _has_values(known):
        return None
    if known.codes is not None:
        return next(iter(known.codes))
    if known.type == "boolean":
        return False
    low, high = _bounds(known)
    return min(max(0, low), high)


def _fractions(known: Property) -> Iterator[float]:
    """Give a number within the bounds that is not whole, if there is one."""
    low, high = _bounds(known)
    near = min(max(0, low), high)
    for candidate in (near, near + 0.5, near - 0.5, low, high):
        if low <= candidate <= high and math.isfinite(candidate) and candidate != round(candidate):
            yield candidate
            return
