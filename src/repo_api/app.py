"""Owns the HTTP side: routes, what is refused and how, and the form of every answer.

Which model answers is left to `watch`, listening to `serve`. Errors are RFC 9457 problems.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from importlib import resources
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from starlette.applications import Starlette  # noqa: TID251
from starlette.exceptions import HTTPException  # noqa: TID251
from starlette.requests import ClientDisconnect, Request  # noqa: TID251
from starlette.responses import HTMLResponse, Response  # noqa: TID251
from starlette.routing import Route  # noqa: TID251
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: TID251

from repo_api.batching import Batcher
from repo_api.errors import InputError, JsonError
from repo_api.metrics import CONTENT_TYPE, MeasureRequests, Metrics
from repo_api.openapi import describe
from repo_api.schema import Schema
from repo_api.watch import Watch

MAX_BODY = 1024 * 1024
_PREDICT = "/predict"
_MEDIA_TYPE = b"application/json"
_LOCAL = frozenset({"127.0.0.1", "::1"})


def make_app(
    watch: Watch,
    metrics: Metrics,
    request_schema: Schema,
    on_reload: Callable[[], None],
    in_flight: Callable[[], int],
) -> ASGIApp:
    """Make the ASGI application.

    Args:
        watch: Holds the model that answers.
        metrics: Where requests are counted.
        request_schema: What a record must fit.
        on_reload: Is called when a client asked for the newest release.
        in_flight: Tells how many requests the server has begun and not ended.
    """
    endpoints = _Endpoints(watch, metrics, describe(request_schema), on_reload)
    predict = _Predict(watch, metrics, in_flight)
    routes = [
        Route(_PREDICT, predict, methods=["POST"]),
        Route("/predict/batch", endpoints.predict_batch, methods=["POST"]),
        Route("/model", endpoints.model),
        Route("/model/reload", endpoints.reload, methods=["POST"]),
        Route("/health/live", endpoints.live),
        Route("/health/ready", endpoints.ready),
        Route("/metrics", endpoints.metrics),
        Route("/openapi.json", endpoints.openapi),
        Route("/docs", endpoints.docs),
    ]
    paths = frozenset(route.path for route in routes)
    starlette = Starlette(
        routes=routes,
        exception_handlers=dict.fromkeys(
            (HTTPException, InputError, ClientDisconnect, Exception), _refuse
        ),
    )

    routed = MeasureRequests(starlette, metrics, paths)

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        shortcut = scope["path"] == _PREDICT and scope["method"] == "POST"
        return (predict if shortcut else routed)(scope, receive, send)

    return app


class _Predict:
    """The endpoint that most requests are for.

    Plain ASGI, past Starlette's routing and past the middleware: they would take
    longer than the answer does.
    """

    def __init__(self, watch: Watch, metrics: Metrics, in_flight: Callable[[], int]) -> None:
        self._watch = watch
        self._metrics = metrics
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        try:
            body = await _body(scope, receive)
            batcher = _current(self._watch)
            if self._in_flight() == 1:
                answer = batcher.answer_alone(body, started)
            else:
                answer = await batcher.answer(body, started)
        except Exception as error:
            status = await self._turn_down(error, started, scope, receive, send)
            if status == HTTPStatus.INTERNAL_SERVER_ERROR:
                raise  # for the log
            return
        if isinstance(answer, InputError):
            await self._turn_down(answer, started, scope, receive, send)
            return
        length = b"%d" % len(answer)
        headers = [(b"content-type", _MEDIA_TYPE), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _turn_down(
        self, error: Exception, started: float, scope: Scope, receive: Receive, send: Send
    ) -> int:
        refusal = await _refuse(None, error)
        self._metrics.observe_request(_PREDICT, refusal.status_code, started)
        await refusal(scope, receive, send)
        return refusal.status_code


class _Endpoints:
    """One method for each other route."""

    def __init__(
        self,
        watch: Watch,
        metrics: Metrics,
        openapi: dict[str, Any],
        on_reload: Callable[[], None],
    ) -> None:
        self._watch = watch
        self._metrics = metrics
        self._on_reload = on_reload
        self._openapi = msgspec.json.encode(openapi)
        self._docs = resources.files("repo_api").joinpath("docs.html").read_text("utf-8")

    async def predict_batch(self, request: Request) -> Response:
        body = await _body(request.scope, request.receive)
        batcher = _current(self._watch)
        model, rows = batcher.model, np.array(batcher.reader.many(body), np.float64)
        # Beside the event loop: a thousand rows take as long as a hundred single requests.
        probabilities = await asyncio.to_thread(model.score, rows)
        return _json([model.answer(probability) for probability in probabilities.tolist()])

    async def model(self, _: Request) -> Response:
        return _json(self._model())

    async def reload(self, request: Request) -> Response:
        if request.client is None or request.client.host not in _LOCAL:
            raise HTTPException(HTTPStatus.FORBIDDEN, "only from this machine")
        if "forwarded" in request.headers or "x-forwarded-for" in request.headers:
            raise HTTPException(HTTPStatus.FORBIDDEN, "only from this machine, not by a proxy")
        _current(self._watch)
        await self._watch.check()
        self._on_reload()
        if self._watch.problem:
            raise HTTPException(HTTPStatus.BAD_GATEWAY, self._watch.problem)
        return _json(self._model())

    async def live(self, _: Request) -> Response:
        return _json({"status": "live"})

    async def ready(self, _: Request) -> Response:
        _current(self._watch)
        return _json({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def docs(self, _: Request) -> Response:
        return HTMLResponse(self._docs)

    def _model(self) -> dict[str, Any]:
        model = _current(self._watch).model
        return {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "threshold": model.threshold,
            "engine": model.engine,
            "problem": self._watch.problem,
        }


def _current(watch: Watch) -> Batcher:
    if watch.current is None:
        raise HTTPException(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "the model is not there yet",
            headers={"retry-after": "1"},
        )
    return watch.current


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Read a JSON body of up to 1 MiB, whether or not its length is announced."""
    media_type = b"none"
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value
            break
    if media_type != _MEDIA_TYPE and media_type.partition(b";")[0].strip().lower() != _MEDIA_TYPE:
        raise HTTPException(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"expected content-type application/json, got {media_type.decode('latin-1')}",
        )
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY or (more and _announced(scope) > MAX_BODY):
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"expected a body of at most {MAX_BODY} bytes",
                headers={"connection": "close"},
            )
    return body


def _announced(scope: Scope) -> int:
    return int(dict(scope["headers"]).get(b"content-length", 0))


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")


async def _refuse(_: Request | None, error: Exception) -> Response:
    """Turn an error into its answer; what is not foreseen is a bug of ours, and logged as one."""
    match error:
        case HTTPException():
            return _problem(error.status_code, error.detail, headers=error.headers)
        case JsonError():
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        case InputError():
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), error.problems)
        case ClientDisconnect():
            return _problem(HTTPStatus.BAD_REQUEST, "the client went away half-way")
        case _:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "a bug; the log says more")


def _problem(
    status: int,
    detail: str,
    errors: Iterable[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Compose a problem (RFC 9457); `errors` are pairs of a field and the reason."""
    content: dict[str, Any] = {
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        content["errors"] = [{"field": field, "reason": reason} for field, reason in errors]
    return Response(
        msgspec.json.encode(content), status, headers, media_type="application/problem+json"
    )
