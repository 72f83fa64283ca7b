"""Owns the input schema: what it may say, and how a record becomes a row of numbers.

Reading CSV files is left to `data`, comparing two schemas to `compatibility`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from repo_ml.errors import FormatError

Kind = Literal["integer", "number", "boolean", "string"]

_ROOT_KEYWORDS = frozenset(
    {"$schema", "$id", "title", "description", "type", "properties", "required", "examples"}
)
_NUMBER_KEYWORDS = frozenset({"minimum", "maximum"})
_PROPERTY_KEYWORDS = frozenset({"type", "enum", "title", "description", "examples"})
_MOST_MEMBERS = 255  # HistGradientBoostingClassifier holds a category in eight bits


@dataclass(frozen=True, slots=True)
class Property:
    """One input: what may be sent for it, and whether it must be."""

    name: str
    kind: Kind
    required: bool
    nullable: bool
    enum: tuple[str | None, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    title: str = field(default="", compare=False)
    description: str = field(default="", compare=False)

    @property
    def members(self) -> tuple[str, ...]:
        """Give the strings of the enum, without null."""
        return tuple(member for member in self.enum if member is not None)

    def encode(self, value: object) -> float:
        """Give the number that stands for a value that fits; absent and null are NaN.

        The position in an enum counts every entry as written, null too.
        """
        if value is None:
            return math.nan
        if self.kind == "string":
            return float(self.enum.index(str(value)))
        return float(value)  # type: ignore[arg-type]  # a value that fits is a number here


@dataclass(frozen=True, slots=True)
class InputSchema:
    """A flat JSON Schema (draft 2020-12), read; `source` is the file's own bytes."""

    title: str
    properties: tuple[Property, ...]
    source: bytes

    @classmethod
    def from_json(cls, content: bytes, subject: str) -> Self:
        """Read a schema, refusing every keyword that the encoding does not define.

        Args:
            content: The file's bytes.
            subject: What errors call it, usually its path.

        Raises:
            FormatError: It is no JSON, or says something that is not supported.
        """
        try:
            raw = json.loads(content)
        except ValueError as error:
            raise FormatError(f"{subject}: expected JSON, got {error}") from error
        if not isinstance(raw, dict) or raw.get("type") != "object":
            raise FormatError(f'{subject}: expected a JSON Schema with "type": "object"')
        _refuse_others(raw, _ROOT_KEYWORDS, subject, "")
        described, required = raw.get("properties"), raw.get("required", [])
        if not isinstance(described, dict) or not described:
            raise FormatError(f"{subject}: expected at least one property under /properties")
        if not isinstance(required, list) or not set(map(str, required)) <= set(described):
            raise FormatError(f"{subject}: expected /required to list some of the properties")
        return cls(
            title=str(raw.get("title", "")),
            properties=tuple(
                _property(name, value, name in required, subject)
                for name, value in described.items()
            ),
            source=content,
        )

    def find(self, name: str) -> Property | None:
        """Find a property by its name."""
        return next((found for found in self.properties if found.name == name), None)

    def differences(self, other: Self) -> list[str]:
        """Name the properties that the two do not have in common, whatever they are titled."""
        names = dict.fromkeys(p.name for p in (*self.properties, *other.properties))
        return [name for name in names if self.find(name) != other.find(name)]

    def encode(self, records: Iterable[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Turn records that fit the schema into rows: float64, shape (records, properties).

        Columns are in the order of the properties; an enum member is its
        position, a boolean 0 or 1, absent or null is NaN. Properties that the
        schema does not know are ignored.
        """
        rows = [[p.encode(record.get(p.name)) for p in self.properties] for record in records]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.properties))


def _refuse_others(
    raw: Mapping[str, object], known: frozenset[str], subject: str, place: str
) -> None:
    for keyword in raw:
        if keyword not in known:
            raise FormatError(
                f"{subject}: keyword {keyword!r} at {place or '/'} is not supported; "
                f"supported there: {', '.join(sorted(known))}"
            )


def _property(name: str, raw: object, required: bool, subject: str) -> Property:  # noqa: FBT001  # read from a list, not chosen by a caller
    place = f"/properties/{name}"
    if not isinstance(raw, dict):
        raise FormatError(f"{subject}: expected an object at {place}")
    kinds = raw.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) for kind in kinds) or len(set(kinds) - {"null"}) != 1:
        raise FormatError(f'{subject}: expected one type, or one and "null", at {place}/type')
    (kind,) = set(kinds) - {"null"}
    if kind not in get_args(Kind):
        raise FormatError(
            f"{subject}: type {kind!r} at {place}/type is not supported; "
            f"supported: {', '.join(get_args(Kind))}"
        )
    numeric = kind in ("integer", "number")
    known = _PROPERTY_KEYWORDS - (frozenset() if kind == "string" else {"enum"})
    _refuse_others(raw, known | (_NUMBER_KEYWORDS if numeric else frozenset()), subject, place)
    nullable = "null" in kinds
    minimum, maximum = _bounds(raw, kind, subject, place)
    return Property(
        name=name,
        kind=kind,
        required=required,
        nullable=nullable,
        enum=_enum(raw.get("enum"), nullable, subject, place) if kind == "string" else (),
        minimum=minimum,
        maximum=maximum,
        title=str(raw.get("title", name)),
        description=str(raw.get("description", "")),
    )


def _enum(raw: object, nullable: bool, subject: str, place: str) -> tuple[str | None, ...]:  # noqa: FBT001  # the same
    members = [member for member in raw if member is not None] if isinstance(raw, list) else []
    if not members or not all(isinstance(member, str) for member in members):
        raise FormatError(f"{subject}: expected strings at {place}/enum")
    if len(set(members)) != len(members) or len(members) > _MOST_MEMBERS:
        raise FormatError(
            f"{subject}: expected at most {_MOST_MEMBERS} different strings at {place}/enum"
        )
    if (None in raw) != nullable:  # type: ignore[operator]  # it is a list if there are members
        raise FormatError(
            f'{subject}: expected null at {place}/enum exactly if {place}/type lists "null"'
        )
    return tuple(raw)  # type: ignore[arg-type]  # the same


def _bounds(
    raw: Mapping[str, object], kind: str, subject: str, place: str
) -> tuple[float | None, float | None]:
    bounds: list[float | None] = []
    for keyword in ("minimum", "maximum"):
        if keyword in raw and not _is_finite(raw[keyword]):
            raise FormatError(f"{subject}: expected a finite number at {place}/{keyword}")
        bounds.append(cast("float | None", raw.get(keyword)))
    low, high = bounds
    if low is not None and high is not None:
        whole = kind == "integer"
        if (math.ceil(low) if whole else low) > (math.floor(high) if whole else high):
            raise FormatError(f"{subject}: no {kind} fits the bounds at {place}")
    return low, high


def _is_finite(bound: object) -> bool:
    if isinstance(bound, bool) or not isinstance(bound, int | float):
        return False
    try:
        return math.isfinite(bound)
    except OverflowError:  # an integer beyond every float
        return False
