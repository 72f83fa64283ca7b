"""Owns a model without a release, for the tests that ask how an answer travels."""

import json

from repo_api.model import Model, Score
from repo_api.schema import Record, Schema

SCHEMA = Schema.from_json(
    json.dumps(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Visitor",
            "type": "object",
            "properties": {
                "clicks": {"type": "integer", "minimum": 0, "maximum": 1000, "examples": [180]},
                "score": {"type": ["number", "null"]},
            },
            "required": ["clicks"],
        }
    ).encode(),
    "schema.json",
)


def record(clicks: object) -> Record:
    return {"clicks": clicks}


def fake_model(
    version: str = "2.0.0", score: Score = lambda rows: rows[:, 0] / 1000, schema: Schema = SCHEMA
) -> Model:
    """Make a model of which the probability is a thousandth of the clicks."""
    return Model("churn-model", version, f"sha256:{version}", 0.5, schema, "treelite", score)
