"""Tests of the answering of JSON lines."""

import json

import pytest

from fakes import SCHEMA, fake_model, record
from repo_api.errors import InputError, JsonError
from repo_api.predict import predict


def test_every_line_gets_a_prediction_in_its_place() -> None:
    lines = [json.dumps(record(clicks)).encode() for clicks in (10, 600)]

    answers = [json.loads(line) for line in predict(fake_model(), SCHEMA, lines)]

    assert answers == [
        {"probability": 0.01, "decision": False, "version": "2.0.0", "digest": "sha256:2.0.0"},
        {"probability": 0.6, "decision": True, "version": "2.0.0", "digest": "sha256:2.0.0"},
    ]


def test_every_answer_is_a_line() -> None:
    (answer,) = predict(fake_model(), SCHEMA, [json.dumps(record(10)).encode()])

    assert answer.endswith(b"}\n")


def test_empty_lines_are_skipped() -> None:
    assert predict(fake_model(), SCHEMA, [b"\n", b"  \n"]) == []


def test_a_line_that_does_not_fit_is_named_before_anything_is_answered() -> None:
    lines = [json.dumps(record(10)).encode(), b"\n", json.dumps(record(-1)).encode()]

    with pytest.raises(InputError, match=r"^line 3, clicks: expected integer >= 0$"):
        predict(fake_model(), SCHEMA, lines)


def test_a_line_that_is_no_json_is_named() -> None:
    with pytest.raises(InputError, match=r"^line 1, \(body\): expected JSON") as refusal:
        predict(fake_model(), SCHEMA, [b"{"])

    assert isinstance(refusal.value.__cause__, JsonError)
