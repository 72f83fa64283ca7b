"""Tests of `delivery`: the steps in their order, and what is remembered of them."""

import json
import pickle
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import CHANNEL, INPUT_SCHEMA, KeyPair, MakeRelease, MemoryRegistry
from repo_api import delivery
from repo_api.cache import Cache
from repo_api.delivery import Delivery
from repo_api.errors import ContractError, IntegrityError
from repo_api.release import ServedRelease
from repo_api.schema import Schema

REQUEST_SCHEMA = Schema.from_json(json.dumps(INPUT_SCHEMA).encode(), "request_schema.json")


@pytest.fixture
def way(
    registry: MemoryRegistry, keys: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Delivery:
    monkeypatch.setattr(delivery, "OciRegistry", lambda _address: registry)
    return Delivery("registry.test", CHANNEL, tmp_path / "cache", keys.public)


def test_current_digest_costs_one_request(
    way: Delivery, registry: MemoryRegistry, make_release: MakeRelease
) -> None:
    digest = registry.publish(make_release(), "v2")

    assert way.current_digest() == digest
    assert registry.requests == ["HEAD v2"]


def test_bring_remembers_what_is_served(
    way: Delivery, registry: MemoryRegistry, cache: Cache, make_release: MakeRelease
) -> None:
    digest = registry.publish(make_release(), "v2")

    model = way.bring(REQUEST_SCHEMA)

    assert model.digest == digest
    assert cache.last_served(CHANNEL) == ServedRelease(digest, Version("2.0.0"))


def test_bring_remembers_nothing_that_could_not_be_loaded(
    way: Delivery, registry: MemoryRegistry, cache: Cache, make_release: MakeRelease
) -> None:
    wrong = [
        {"input": {"age_band": "0-35", "studied_credits": 1, "clicks_28d": 1}, "probability": 2.0}
    ]
    registry.publish(make_release(golden_examples=wrong), "v2")

    with pytest.raises(IntegrityError, match="golden example"):
        way.bring(REQUEST_SCHEMA)
    assert cache.last_served(CHANNEL) is None


def test_bring_loads_nothing_that_does_not_accept_what_this_api_sends(
    way: Delivery, registry: MemoryRegistry, cache: Cache, make_release: MakeRelease
) -> None:
    older = json.loads(json.dumps(INPUT_SCHEMA))
    del older["properties"]["clicks_28d"]
    older["required"].remove("clicks_28d")
    registry.publish(make_release(), "v2")

    with pytest.raises(ContractError) as refusal:
        way.bring(Schema.from_json(json.dumps(older).encode(), "request_schema.json"))

    assert str(refusal.value) == (
        "registry.test/edustream/churn-model:v2: version 2.0.0 does not accept what this API "
        'sends: clicks_28d is required and never sent, as in {"age_band": "0-35", '
        '"studied_credits": 0}; serve an older major version, or let the API send what is '
        "wanted first"
    )
    assert cache.last_served(CHANNEL) is None


def test_a_delivery_can_be_handed_to_another_process(way: Delivery) -> None:
    assert pickle.loads(pickle.dumps(way)) == way  # noqa: S301  our own bytes
