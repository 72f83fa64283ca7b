"""Owns the answering of records from a file: JSON lines in, JSON lines out.

Answering over HTTP is left to `serve`.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

from repo_api.errors import InputError
from repo_api.model import Model
from repo_api.records import RecordReader
from repo_api.schema import Schema


def predict(model: Model, request_schema: Schema, lines: Iterable[bytes]) -> list[bytes]:
    """Score one record a line, and give one prediction a line; empty lines are skipped.

    All lines are checked before one is answered, so nothing is half-written.

    Raises:
        InputError: A line does not fit the request schema, or the model; it names the line.
    """
    reader = RecordReader(request_schema, model.schema)
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(reader.one(line))
        except InputError as error:
            raise InputError(
                [(f"line {number}, {field}", reason) for field, reason in error.problems]
            ) from error
    if not rows:
        return []
    return [
        msgspec.json.encode(model.answer(probability)) + b"\n"
        for probability in model.score(np.array(rows, np.float64)).tolist()
    ]
