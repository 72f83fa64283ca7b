"""Tests of the HTTP side: every answer, every refusal, and the document that promises them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from starlette.types import Message

from fakes import SCHEMA, fake_model, record
from repo_api.app import MAX_BODY, make_app
from repo_api.errors import RegistryError
from repo_api.metrics import Metrics
from repo_api.model import Model
from repo_api.openapi import describe
from repo_api.schema import Matrix
from repo_api.watch import Watch

JSON = {"content-type": "application/json"}


class Api:
    """The application with a model that was brought, and a client that speaks to it."""

    def __init__(self, *models: Model, address: str = "127.0.0.1") -> None:
        """Bring the models one after the other; the last one stays on offer."""
        self.on_offer = list(models)
        self.reloads = 0
        self._address = address
        metrics = Metrics()
        self.watch = Watch(self._latest, self._bring, SCHEMA, metrics)
        self.in_flight = 1
        self.app = make_app(
            self.watch, metrics, SCHEMA, self._count_reload, in_flight=lambda: self.in_flight
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Bring the first model, and send one request."""
        return self.requests((method, path, options))[0]

    def requests(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Bring the first model, and send requests one after the other."""

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(
                self.app, raise_app_exceptions=False, client=(self._address, 1)
            )
            if self.on_offer and self.watch.current is None:
                await self.watch.run(0, lambda _model: None)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                return [
                    await client.request(method, path, **options)
                    for method, path, options in requests
                ]

        return asyncio.run(send())

    def predict(self, content: object) -> httpx.Response:
        """Ask for one prediction."""
        return self.request("POST", "/predict", json=content)

    def _latest(self) -> str:
        if not self.on_offer:
            raise RegistryError("the registry is down")
        return self.on_offer[0].digest

    def _bring(self) -> Model:
        return self.on_offer.pop(0) if len(self.on_offer) > 1 else self.on_offer[0]

    def _count_reload(self) -> None:
        self.reloads += 1


def test_a_record_is_scored_and_the_answer_names_the_model() -> None:
    response = Api(fake_model()).predict(record(600))

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "probability": 0.6,
        "decision": True,
        "version": "2.0.0",
        "digest": "sha256:2.0.0",
    }


def test_a_batch_is_answered_in_its_order() -> None:
    response = Api(fake_model()).request(
        "POST", "/predict/batch", json=[record(clicks) for clicks in (600, 10)]
    )

    assert [answer["probability"] for answer in response.json()] == [0.6, 0.01]


def test_records_sent_together_are_each_answered() -> None:
    api = Api(fake_model())
    api.in_flight = 300

    async def send() -> list[float]:
        await api.watch.run(0, lambda _model: None)
        transport = httpx.ASGITransport(api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            answers = await asyncio.gather(
                *(client.post("/predict", json=record(clicks)) for clicks in range(300))
            )
        return [answer.json()["probability"] for answer in answers]

    assert asyncio.run(send()) == [clicks / 1000 for clicks in range(300)]


def test_a_record_that_does_not_fit_gets_422_with_field_and_reason() -> None:
    response = Api(fake_model()).predict(record(-1))

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "clicks: expected integer >= 0",
        "errors": [{"field": "clicks", "reason": "expected integer >= 0"}],
    }


def test_a_record_that_the_model_does_not_know_gets_422() -> None:
    document = {
        "type": "object",
        "properties": {"tenure": {"type": "integer"}},
        "required": ["tenure"],
    }
    schema = type(SCHEMA).from_json(json.dumps(document).encode(), "schema.json")

    response = Api(fake_model(schema=schema)).predict(record(1))

    assert response.json()["errors"] == [{"field": "tenure", "reason": "the model requires it"}]


def test_a_batch_of_more_than_a_thousand_gets_422() -> None:
    response = Api(fake_model()).request("POST", "/predict/batch", json=[record(1)] * 1001)

    assert response.status_code == 422


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 10_000])
def test_what_is_no_json_gets_400(path: str, body: bytes) -> None:
    response = Api(fake_model()).request("POST", path, content=body, headers=JSON)

    assert response.status_code == 400
    assert "expected JSON" in response.json()["detail"]


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
def test_another_content_type_gets_415(headers: dict[str, str]) -> None:
    response = Api(fake_model()).request("POST", "/predict", content=b"{}", headers=headers)

    assert response.status_code == 415
    assert "expected content-type application/json" in response.json()["detail"]


def test_a_content_type_may_name_its_charset() -> None:
    response = Api(fake_model()).request(
        "POST",
        "/predict",
        content=json.dumps(record(1)).encode(),
        headers={"content-type": "Application/JSON; charset=utf-8"},
    )

    assert response.status_code == 200


def test_a_body_of_over_a_mebibyte_gets_413() -> None:
    response = Api(fake_model()).request(
        "POST", "/predict", content=b" " * (MAX_BODY + 1), headers=JSON
    )

    assert response.status_code == 413
    assert response.headers["connection"] == "close"


def test_a_body_of_over_a_mebibyte_without_a_length_gets_413() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 65536

    response = Api(fake_model()).request("POST", "/predict", content=endless(), headers=JSON)

    assert "content-length" not in response.request.headers
    assert response.status_code == 413


def test_a_body_of_a_mebibyte_in_pieces_is_read() -> None:
    content = json.dumps(record(1)).encode().ljust(MAX_BODY)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, MAX_BODY, 65536):
            yield content[start : start + 65536]

    response = Api(fake_model()).request("POST", "/predict", content=pieces(), headers=JSON)

    assert response.status_code == 200


def test_a_client_that_goes_away_half_way_is_no_error_of_ours() -> None:
    api = Api(fake_model())
    sent: list[Message] = []
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        await api.app(scope, receive, send)

    asyncio.run(main())

    assert sent[0]["status"] == 400


def test_unknown_paths_and_methods_get_problems() -> None:
    api = Api(fake_model())

    missing, wrong = api.requests(("GET", "/nope", {}), ("GET", "/predict", {}))

    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.headers["content-type"] == "application/problem+json"


def test_before_there_is_a_model_it_is_live_and_not_ready() -> None:
    api = Api()

    live, ready, model, predict = api.requests(
        ("GET", "/health/live", {}),
        ("GET", "/health/ready", {}),
        ("GET", "/model", {}),
        ("POST", "/predict", {"json": record(1)}),
    )

    assert live.status_code == 200
    assert [ready.status_code, model.status_code, predict.status_code] == [503, 503, 503]
    assert ready.headers["retry-after"] == "1"


def test_model_says_which_release_answers() -> None:
    ready, model = Api(fake_model()).requests(("GET", "/health/ready", {}), ("GET", "/model", {}))

    assert ready.status_code == 200
    assert model.json() == {
        "name": "churn-model",
        "version": "2.0.0",
        "digest": "sha256:2.0.0",
        "threshold": 0.5,
        "engine": "treelite",
        "problem": None,
    }


def test_reload_takes_a_newer_release_now() -> None:
    api = Api(fake_model("2.0.0"), fake_model("2.1.0"))

    reload, predict = api.requests(
        ("POST", "/model/reload", {}), ("POST", "/predict", {"json": record(1)})
    )

    assert reload.json()["version"] == "2.1.0"
    assert predict.json()["version"] == "2.1.0"
    assert api.reloads == 1


def test_reload_says_why_a_release_was_not_taken() -> None:
    api = Api(fake_model("2.0.0"), fake_model("1.9.0"))

    reload, model, ready = api.requests(
        ("POST", "/model/reload", {}), ("GET", "/model", {}), ("GET", "/health/ready", {})
    )

    assert reload.status_code == 502
    assert "got 1.9.0" in reload.json()["detail"]
    assert (model.json()["version"], model.json()["problem"]) == ("2.0.0", reload.json()["detail"])
    assert ready.status_code == 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.7", {}),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.7"}),
        ("::1", {"forwarded": "for=192.0.2.7"}),
    ],
)
def test_reload_is_for_this_machine_alone(address: str, headers: dict[str, str]) -> None:
    api = Api(fake_model(), address=address)

    response = api.request("POST", "/model/reload", headers=headers)

    assert response.status_code == 403
    assert api.reloads == 0


def fail(_rows: Matrix) -> NDArray[np.float64]:
    raise ZeroDivisionError


def test_a_bug_gets_a_problem_without_its_details() -> None:
    response = Api(fake_model(score=fail)).predict(record(1))

    assert response.status_code == 500
    assert response.json()["detail"] == "a bug; the log says more"


def test_metrics_count_requests_and_the_model() -> None:
    api = Api(fake_model())

    *_, metrics = api.requests(
        ("POST", "/predict", {"json": record(1)}),
        ("POST", "/predict", {"json": record(-1)}),
        ("GET", "/no/such/path", {}),
        ("GET", "/metrics", {}),
    )

    lines = metrics.text.splitlines()
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'repo_api_request_seconds_count{path="/predict",status="200"} 1.0' in lines
    assert 'repo_api_request_seconds_count{path="/predict",status="422"} 1.0' in lines
    assert 'repo_api_request_seconds_count{path="other",status="404"} 1.0' in lines
    assert 'repo_api_model_serving{digest="sha256:2.0.0",version="2.0.0"} 1.0' in lines


def test_the_openapi_document_holds_the_request_schema_itself() -> None:
    response = Api().request("GET", "/openapi.json")

    document = response.json()
    assert document["openapi"] == "3.1.0"
    assert document["components"]["schemas"]["Record"] == SCHEMA.document


def test_the_openapi_document_lists_every_route() -> None:
    api = Api(fake_model())
    document = describe(SCHEMA)

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {"content": {"application/json": {}}})
            example = body["content"]["application/json"].get("example")

            response = api.request(method.upper(), path, json=example)

            assert str(response.status_code) in operation["responses"], path
            assert response.status_code == 200, path


@pytest.mark.parametrize(
    ("name", "send"),
    [
        ("Prediction", lambda api: api.predict(record(1))),
        ("Model", lambda api: api.request("GET", "/model")),
        ("Problem", lambda api: api.predict(record(-1))),
    ],
)
def test_answers_fit_the_openapi_document(name: str, send: Callable[[Api], httpx.Response]) -> None:
    schema = describe(SCHEMA)["components"]["schemas"][name]

    answer = send(Api(fake_model())).json()

    jsonschema.Draft202012Validator(schema).validate(answer)
    assert set(answer) <= set(schema["properties"])


def test_the_docs_page_loads_nothing_from_elsewhere() -> None:
    page = Api().request("GET", "/docs")

    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("// ", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("a0é.\\"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["clicks", "score", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


API = Api(fake_model())


@settings(deadline=None)  # a busy machine is no failure
@given(json_values)
def test_random_json_is_answered_if_and_only_if_it_fits(value: object) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA.document)

    one, many = API.requests(
        *(
            ("POST", path, {"content": json.dumps(value, allow_nan=True), "headers": JSON})
            for path in ("/predict", "/predict/batch")
        )
    )

    if "Infinity" in json.dumps(value):  # Python writes it, JSON has no such value
        assert (one.status_code, many.status_code) == (400, 400)
    else:
        fits_many = isinstance(value, list) and value and all(map(validator.is_valid, value))
        assert one.status_code == (200 if validator.is_valid(value) else 422)
        assert many.status_code == (200 if fits_many else 422)
