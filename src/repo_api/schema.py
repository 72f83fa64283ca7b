"""Owns the schema of a record: which JSON Schemas are understood.

Whether a record fits a schema, and how it is encoded, is left to `records`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from repo_api.errors import FormatError

Record = Mapping[str, Any]
Matrix = NDArray[np.float64]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LIMIT = 2**63
_ANNOTATIONS = {"title", "description", "examples"}
_ROOT_KEYWORDS = _ANNOTATIONS | {"$schema", "$id", "type", "properties", "required"}
_KEYWORDS = {
    "boolean": _ANNOTATIONS | {"type"},
    "integer": _ANNOTATIONS | {"type", "minimum", "maximum"},
    "number": _ANNOTATIONS | {"type", "minimum", "maximum"},
    "string": _ANNOTATIONS | {"type", "enum"},
}


@dataclass(frozen=True, slots=True)
class Property:
    """One value of a record.

    `codes` is the position of each member of an enum; only strings have it.
    """

    name: str
    type: str
    nullable: bool
    required: bool
    codes: Mapping[str, int] | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class Schema:
    """A flat JSON Schema (draft 2020-12): its properties in order, and the document itself."""

    properties: tuple[Property, ...]
    document: Mapping[str, Any]

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Self:
        """Read a schema and refuse what the encoding cannot express.

        Args:
            content: The JSON text.
            source: What an error calls it, such as its file name.

        Raises:
            FormatError: It is no flat schema, or has a keyword that is not supported.
        """
        try:
            document = json.loads(content)
        except ValueError as error:
            raise FormatError(f"{source}: expected JSON, got {error}") from error
        if not isinstance(document, dict) or document.get("type") != "object":
            raise FormatError(f"{source}: expected a schema of type 'object'")
        _refuse_keywords(document, _ROOT_KEYWORDS, source)
        if document.get("$schema", _DIALECT) != _DIALECT:
            raise FormatError(f"{source}: expected $schema {_DIALECT}, got {document['$schema']!r}")
        properties = document.get("properties")
        if not isinstance(properties, dict) or not properties:
            raise FormatError(f"{source}: expected properties, got none")
        required = document.get("required", [])
        if not isinstance(required, list) or not all(
            isinstance(name, str) and name in properties for name in required
        ):
            raise FormatError(f"{source}: required: expected names of properties, got {required!r}")
        return cls(
            tuple(
                _property(name, raw, f"{source}: properties.{name}", required=name in required)
                for name, raw in properties.items()
            ),
            document,
        )


def read_input_schema(path: Path) -> Schema:
    """Read the schema that a release came with.

    Raises:
        FormatError: It is missing, or cannot be read.
    """
    try:
        return Schema.from_json(path.read_bytes(), path.name)
    except FileNotFoundError as error:
        raise FormatError(f"{path.name}: expected in the release, got none") from error


def _property(name: str, raw: object, place: str, *, required: bool) -> Property:
    """Read one property; `place` is what an error calls it."""
    if not isinstance(raw, dict):
        raise FormatError(f"{place}: expected an object, got {raw!r}")
    declared = raw.get("type")
    types = declared if isinstance(declared, list) else [declared]
    kinds = [kind for kind in _KEYWORDS if kind in types]
    nullable = "null" in types
    if len(kinds) != 1 or len(types) != len(kinds) + nullable:
        raise FormatError(
            f"{place}.type: expected one of {', '.join(_KEYWORDS)}, alone or with null, "
            f"got {declared!r}"
        )
    kind = kinds[0]
    _refuse_keywords(raw, _KEYWORDS[kind], place)
    codes = _codes(raw.get("enum"), place, nullable=nullable) if kind == "string" else None
    minimum, maximum = (_bound(raw, keyword, place) for keyword in ("minimum", "maximum"))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise FormatError(f"{place}: expected minimum <= maximum, got {minimum} > {maximum}")
    return Property(name, kind, nullable, required, codes, minimum, maximum)


def _refuse_keywords(raw: Mapping[str, Any], known: set[str], place: str) -> None:
    for keyword in raw:
        if keyword not in known:
            raise FormatError(
                f"{place}: keyword {keyword!r} is not supported here; "
                f"supported are {', '.join(sorted(known))}"
            )


def _codes(members: object, place: str, *, nullable: bool) -> dict[str, int]:
    if not isinstance(members, list):
        raise FormatError(f"{place}: expected an enum, because its type is 'string', got none")
    if (None in members) != nullable:
        raise FormatError(f"{place}: expected null in type and in enum, or in neither of them")
    codes = {member: code for code, member in enumerate(members) if isinstance(member, str)}
    if not codes or len(codes) + nullable != len(members):
        raise FormatError(f"{place}.enum: expected strings, each once, got {members!r}")
    return codes


def _bound(raw: Mapping[str, Any], keyword: str, place: str) -> float | None:
    bound = raw.get(keyword)
    if bound is None and keyword not in raw:
        return None
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not abs(bound) < _LIMIT:
        raise FormatError(f"{place}.{keyword}: expected a number below 2**63, got {bound!r}")
    return bound
