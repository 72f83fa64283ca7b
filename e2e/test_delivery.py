"""From a release to a served prediction: two programs, and a registry between them."""

from __future__ import annotations

import csv
import filecmp
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import (
    MODEL,
    LocalRegistry,
    Team,
    golden_examples,
    make_release,
    require,
    serving,
)

TOLERANCE = 1e-9
OULAD_LEARNERS = 4084
OULAD_AUC = 0.60
SUBSCRIBERS = 400
SUBSCRIBER_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Subscriber",
    "type": "object",
    "properties": {
        "plan": {"type": "string", "enum": ["basic", "family", "premium"]},
        "monthly_fee": {"type": "number", "minimum": 0, "maximum": 99.5},
        "paperless": {"type": "boolean"},
        "months": {"type": ["integer", "null"], "minimum": 0},
        "region": {"type": ["string", "null"], "enum": ["north", "south", None]},
    },
    "required": ["plan", "monthly_fee", "paperless"],
}


def published(ml: Team, release: Path) -> str:
    """Publish a release, and return the digest that it is pinned by."""
    *_, last = ml.must("publish", release).splitlines()
    assert last.startswith("DEPLOY EXITOSO ")
    return last.partition("@")[2]


def write_subscribers(file: Path) -> None:
    """Write a table with gaps in it; who pays much and has not been there long leaves."""
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(
            ["customer", "plan", "monthly_fee", "paperless", "months", "region", "left"]
        )
        for number in range(SUBSCRIBERS):
            months, fee = number * 7 % 61, number * 13 % 90 + 0.5
            writer.writerow(
                [
                    f"C{number}",
                    ("basic", "family", "premium")[number % 3],
                    fee,
                    ("Yes", "No")[number % 2],
                    "" if number % 11 == 0 else months,
                    ("north", "south", "")[number * 5 % 3],
                    "gone" if fee > months + 20 else "stayed",
                ]
            )


def test_a_release_becomes_a_prediction_over_http(ml: Team, api: Team, release: Path) -> None:
    digest = published(ml, release)

    with serving(api) as service:
        described = service.get("/model")
        answers = [(service.predict(x), expected) for x, expected in golden_examples(release)]

    assert service.ready.startswith(f"modelo v2.0.0 cargado y listo, {digest}")
    assert (described["version"], described["digest"]) == ("2.0.0", digest)
    assert answers
    for answer, expected in answers:
        assert answer["probability"] == pytest.approx(expected, abs=TOLERANCE)
        assert answer["digest"] == digest


def test_what_is_not_released_cannot_be_served(
    ml: Team, api: Team, registry: LocalRegistry, release: Path
) -> None:
    digest = published(ml, release)
    with serving(api):
        pass

    assert registry.ask("DELETE", f"manifests/{digest}").ok
    line = api.refused("serve", "--port", "0")  # although its cache holds the release

    assert f"{registry.address}/{MODEL}:v2: not released" in line
    published(ml, release)
    with serving(api) as service:
        assert service.get("/model")["digest"] == digest


def test_a_registry_that_is_down_is_replaced_by_the_cache_with_a_warning(
    ml: Team, api: Team, registry: LocalRegistry, release: Path
) -> None:
    digest = published(ml, release)
    with serving(api):
        pass

    registry.down()
    with serving(api) as service:
        described = service.get("/model")

    assert described["digest"] == digest
    (warning,) = service.errors.read_text(encoding="utf-8").splitlines()
    assert warning.startswith("repo-api: warning: ")
    assert "the registry does not answer" in warning
    assert "version 2.0.0 from the cache stands in" in warning


def test_without_registry_and_cache_nothing_is_served(
    api: Team, registry: LocalRegistry, cache: Path
) -> None:
    registry.down()

    line = api.refused("serve", "--port", "0")

    assert f"{registry.address}: the registry does not answer" in line
    assert not list(cache.rglob("*.json"))


def test_the_same_release_made_twice_has_the_same_digest(
    ml: Team, programs: dict[str, Path], keys: Path, release: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    again = make_release(programs, keys, tmp_path / "elsewhere")

    first, second = ml.must("publish", release), ml.must("publish", again)

    names = sorted(path.name for path in release.iterdir())
    assert filecmp.cmpfiles(release, again, names, shallow=False) == (names, [], [])
    assert "already released with these very bytes" in second
    assert second.splitlines()[-1] == first.splitlines()[-1]


def test_another_business_needs_a_table_and_a_schema_and_no_python(
    ml: Team, api: Team, tmp_path: Path
) -> None:
    table, schema = tmp_path / "subscribers.csv", tmp_path / "subscribers.json"
    write_subscribers(table)
    schema.write_text(json.dumps(SUBSCRIBER_SCHEMA), encoding="utf-8")
    outcome = ["--target", "left", "--positive", "gone", "--name", "subscription-churn"]

    said = ml.must("release", "--data", table, "--schema", schema, *outcome)
    with serving(api, "edustream/subscription-churn:v1", "--request-schema", schema) as service:
        examples = golden_examples(ml.folder / "releases" / "subscription-churn-1.0.0")
        answers = [(service.predict(x), expected) for x, expected in examples]
        leaving = {"plan": "family", "monthly_fee": 89.5, "paperless": True, "months": 2}
        staying = {"plan": "family", "monthly_fee": 5.5, "paperless": True, "region": None}
        high, low = (service.predict(record)["probability"] for record in (leaving, staying))

    assert "DEPLOY EXITOSO" in said
    assert any(None in example.values() for example, _ in examples)
    for answer, expected in answers:
        assert answer["probability"] == pytest.approx(expected, abs=TOLERANCE)
    assert high > low


def test_oulad_is_forecast_and_served(ml: Team, api: Team) -> None:
    written = ml.must("data", "oulad", Path(require("oulad")).resolve())
    said = ml.must("release", "--data", "learners.csv")
    folder = ml.folder / "releases" / "churn-model-2.0.0"
    metrics: dict[str, Any] = json.loads((folder / "release.json").read_bytes())["metrics"]
    with serving(api) as service:
        record, expected = golden_examples(folder)[0]
        answer = service.predict(record)

    learners = re.search(r": (\d+) learners", written)
    assert learners
    assert int(learners[1]) == OULAD_LEARNERS
    with_v1, with_v2 = metrics["baseline"]["auc"], metrics["cross_validation"]["auc"]
    assert with_v2 >= OULAD_AUC
    assert with_v1 < with_v2
    assert f"cross-validation: AUC {with_v2:.3f}" in said
    assert f"schema before: AUC {with_v1:.3f}" in said
    assert f"is {with_v1}." in (folder / "README.md").read_text(encoding="utf-8")
    assert answer["probability"] == pytest.approx(expected, abs=TOLERANCE)
