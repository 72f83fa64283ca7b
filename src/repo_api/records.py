"""Owns the reading of records: JSON becomes a row of numbers, or an error with the field.

The checks run in msgspec's compiled code. What a schema may say is left to `schema`.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from repo_api.errors import InputError, JsonError
from repo_api.schema import Property, Schema

Row = list[float | None]
"""An encoded record, a value for every column; numpy reads None as NaN."""

MAX_BATCH = 1000

_Codes = Mapping[Any, Any]
_Decoder = msgspec.json.Decoder[Any]
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INT64 = 2**63
_PLACE = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}


class RecordReader:
    """Reads records that fit one schema, and encodes them as another says.

    Columns are in the order of the input schema; an enum is its position, a boolean
    0 or 1, absent or null is NaN. What either schema does not know is dropped.
    """

    def __init__(self, request_schema: Schema, input_schema: Schema) -> None:
        """Compile the checks of `request_schema` and the encoding of `input_schema`."""
        self._properties = {known.name: known for known in request_schema.properties}
        # Fields have names of their own: a property may be called what no field can.
        fields = {f"p{place}": known for place, known in enumerate(request_schema.properties)}
        record = msgspec.defstruct(
            "Record",
            [
                (field, _type(known)) if known.required else (field, _type(known), None)
                for field, known in fields.items()
            ],
            rename={field: known.name for field, known in fields.items()},
            kw_only=True,
            gc=False,
        )
        batch = Annotated[list[record], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]  # type: ignore[valid-type]  # made at run time
        self._one: _Decoder = msgspec.json.Decoder(record)
        self._many: _Decoder = msgspec.json.Decoder(batch)
        # A record's values have one more at their end, for what is never sent.
        places = {name: place for place, name in enumerate(self._properties)}
        self._columns: list[tuple[Property, int, _Codes | None]] = [
            (known, places.get(known.name, -1), known.codes and {**known.codes, None: None})
            for known in input_schema.properties
        ]

    def one(self, body: bytes) -> Row:
        """Read one record.

        Raises:
            JsonError: It is no JSON.
            InputError: It does not fit one of the schemas.
        """
        try:
            record = self._one.decode(body)
        except _NOT_JSON:
            return self.check(_parse(body))
        return self._encode(record)

    def many(self, body: bytes) -> list[Row]:
        """Read an array of up to `MAX_BATCH` records.

        Raises:
            JsonError: It is no JSON.
            InputError: A record does not fit, or there are none or too many.
        """
        try:
            records = self._many.decode(body)
        except _NOT_JSON:
            raw = _parse(body)
            if isinstance(raw, list):
                raw = [self._integral(item) for item in raw]
            records = self._convert(raw, self._many)
        return [self._encode(record) for record in records]

    def check(self, raw: object) -> Row:
        """Read one record that is already parsed.

        Raises:
            InputError: It does not fit one of the schemas.
        """
        return self._encode(self._convert(self._integral(raw), self._one))

    def _encode(self, record: msgspec.Struct) -> Row:
        values = (*msgspec.structs.astuple(record), None)
        try:
            row = [
                values[place] if codes is None else codes[values[place]]
                for _, place, codes in self._columns
            ]
        except KeyError as error:
            (member,) = error.args
            name = next(
                known.name
                for known, place, codes in self._columns
                if codes is not None and values[place] == member and member not in codes
            )
            raise InputError([(name, f"the model does not know {member!r}")]) from error
        if None in row:
            for (known, _, _), value in zip(self._columns, row, strict=True):
                if value is None and known.required and not known.nullable:
                    raise InputError([(known.name, "the model requires it")])
        return row

    def _integral(self, raw: object) -> object:
        """Let 3.0 pass as the integer that it is (JSON Schema validation 2020-12, 6.1.1)."""
        if not isinstance(raw, dict):
            return raw
        return {
            name: int(value)
            if isinstance(value, float)
            and value.is_integer()
            and name in self._properties
            and self._properties[name].type == "integer"
            else value
            for name, value in raw.items()
        }

    def _convert(self, raw: object, decoder: _Decoder) -> Any:  # noqa: ANN401
        try:
            return msgspec.convert(raw, decoder.type)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from error

    def _explain(self, message: str) -> InputError:
        """Name the field and the reason, in the words of JSON rather than Python's."""
        place = _PLACE.search(message)
        reason = message[: place.start()] if place else message
        field = place[1] if place else ""
        if missing := _MISSING.fullmatch(reason):
            return InputError([(f"{field}.{missing[1]}".removeprefix("."), "required, not given")])
        known = self._properties.get(field.partition(".")[2])
        if known and known.codes and reason.startswith("Invalid enum value"):
            got = reason.removeprefix("Invalid enum value ")
            reason = f"expected one of {', '.join(map(repr, known.codes))}, got {got}"
        words = re.sub(r"`([^`]*)`", _in_json_words, reason)
        return InputError([(field.removeprefix(".") or "(body)", words[:1].lower() + words[1:])])


def _in_json_words(quoted: re.Match[str]) -> str:
    return re.sub(r"\w+", lambda word: _JSON_TYPES.get(word[0], word[0]), quoted[1])


def _parse(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except _NOT_JSON as error:
        raise JsonError(str(error)) from error


def _type(known: Property) -> Any:  # noqa: ANN401  a type made at run time has no type
    """Compose the type that msgspec checks a property with."""
    low, high = known.minimum, known.maximum
    if known.codes is not None:
        kind: Any = Literal[tuple(known.codes)]
    elif known.type == "integer":
        # msgspec's integers have 64 bits where they have bounds, and its bounds are whole.
        lowest = -_INT64 if low is None else math.ceil(low)
        highest = _INT64 - 1 if high is None else math.floor(high)
        kind = Annotated[int, msgspec.Meta(ge=lowest, le=highest)]
    elif known.type == "number":
        kind = Annotated[float, msgspec.Meta(ge=low, le=high)]
    else:
        kind = bool
    return kind | None if known.nullable else kind
