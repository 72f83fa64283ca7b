"""Owns the reading of records: JSON becomes values that fit a schema, or an error with the field.

The checks run in msgspec's compiled code. How a record is encoded is left to `schema`.
"""

import math
import re
from typing import Annotated, Any, Literal

import msgspec

from repo_api.errors import InputError, JsonError
from repo_api.schema import Property, Record, Schema

MAX_BATCH = 1000

_Decoder = msgspec.json.Decoder[Any]
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_INT64 = 2**63
_PLACE = re.compile(r" - at `\$(.*)`$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_JSON_TYPES = {"int": "integer", "float": "number", "str": "string", "bool": "boolean"}


class RecordReader:
    """Reads records that fit one schema; properties that it does not know are dropped."""

    def __init__(self, schema: Schema) -> None:
        """Compile the checks of `schema`."""
        self._properties = {known.name: known for known in schema.properties}
        # Fields have names of their own: a property may be called what no field can.
        fields = {f"p{place}": known for place, known in enumerate(schema.properties)}
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

    def one(self, body: bytes) -> Record:
        """Read one record; what is absent is None.

        Raises:
            JsonError: It is no JSON.
            InputError: It does not fit the schema.
        """
        try:
            return self._name(self._one.decode(body))
        except _NOT_JSON:
            return self.check(_parse(body))

    def many(self, body: bytes) -> list[Record]:
        """Read an array of up to `MAX_BATCH` records.

        Raises:
            JsonError: It is no JSON.
            InputError: A record does not fit the schema, or there are none or too many.
        """
        try:
            records = self._many.decode(body)
        except _NOT_JSON:
            raw = _parse(body)
            if isinstance(raw, list):
                raw = [self._integral(item) for item in raw]
            records = self._convert(raw, self._many)
        return [self._name(record) for record in records]

    def check(self, raw: object) -> Record:
        """Check one record that is already parsed.

        Raises:
            InputError: It does not fit the schema.
        """
        return self._name(self._convert(self._integral(raw), self._one))

    def _name(self, record: msgspec.Struct) -> Record:
        return dict(zip(self._properties, msgspec.structs.astuple(record), strict=True))

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
