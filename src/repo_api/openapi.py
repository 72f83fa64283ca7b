"""Owns the OpenAPI document: the request schema itself, not a copy, and every route beside it."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from repo_api.records import MAX_BATCH
from repo_api.schema import Schema

_Document = dict[str, Any]

_PREDICTION = {
    "type": "object",
    "properties": {
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "decision": {"type": "boolean", "description": "Whether it reaches the threshold."},
        "version": {"type": "string", "description": "The release that answered."},
        "digest": {"type": "string", "description": "Its manifest digest."},
    },
    "required": ["probability", "decision", "version", "digest"],
}
_MODEL = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "digest": {"type": "string"},
        "threshold": {"type": "number", "minimum": 0, "maximum": 1},
        "engine": {"enum": ["treelite", "scikit-learn"]},
        "problem": {
            "type": ["string", "null"],
            "description": "Why the newest release was not taken.",
        },
    },
    "required": ["name", "version", "digest", "threshold", "engine", "problem"],
}
_PROBLEM = {
    "title": "Problem (RFC 9457)",
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
                "required": ["field", "reason"],
            },
        },
    },
    "required": ["title", "status", "detail"],
}


def describe(request_schema: Schema) -> _Document:
    """Compose the OpenAPI 3.1 document of a service that takes records of this schema."""
    example = {
        name: raw["examples"][0]
        for name, raw in request_schema.document["properties"].items()
        if raw.get("examples")
    }
    record, prediction = _reference("Record"), _reference("Prediction")
    records = {"type": "array", "items": record, "minItems": 1, "maxItems": MAX_BATCH}
    refusals = {
        "400": "The body is no JSON.",
        "413": "The body is over 1 MiB.",
        "415": "The content-type is not application/json.",
        "422": "A record does not fit; `errors` names the field and the reason.",
        "503": "No model is loaded yet.",
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "repo-api",
            "version": version("repo-api"),
            "description": "Answers with a released model that was pulled and verified.",
        },
        "paths": {
            "/predict": {
                "post": _operation("Score one record", prediction, refusals, _body(record, example))
            },
            "/predict/batch": {
                "post": _operation(
                    f"Score up to {MAX_BATCH} records, answered in their order",
                    {"type": "array", "items": prediction},
                    refusals,
                    _body(records, [example]),
                )
            },
            "/model": {
                "get": _operation(
                    "Which release answers", _reference("Model"), {"503": refusals["503"]}
                )
            },
            "/model/reload": {
                "post": _operation(
                    "Look for a newer release now",
                    _reference("Model"),
                    {
                        "403": "The request does not come from this machine.",
                        "502": "The newer release was not taken; `detail` says why.",
                        "503": refusals["503"],
                    },
                )
            },
            "/health/live": {"get": _operation("The process answers", {"type": "object"}, {})},
            "/health/ready": {
                "get": _operation("A model is loaded", {"type": "object"}, {"503": refusals["503"]})
            },
            "/metrics": {
                "get": _operation(
                    "Figures for Prometheus", {"type": "string"}, {}, media_type="text/plain"
                )
            },
        },
        "components": {
            "schemas": {
                "Record": request_schema.document,
                "Prediction": _PREDICTION,
                "Model": _MODEL,
                "Problem": _PROBLEM,
            }
        },
    }


def _reference(name: str) -> _Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(schema: _Document, example: object) -> _Document:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def _operation(
    summary: str,
    answer: _Document,
    refusals: Mapping[str, str],
    body: _Document | None = None,
    media_type: str = "application/json",
) -> _Document:
    problem = {"application/problem+json": {"schema": _reference("Problem")}}
    return {
        "summary": summary,
        **(body or {}),
        "responses": {
            "200": {"description": "Done.", "content": {media_type: {"schema": answer}}},
            **{
                status: {"description": reason, "content": problem}
                for status, reason in refusals.items()
            },
        },
    }
