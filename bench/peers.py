"""The peers of the benchmark: how each is prepared, started, asked and understood.

Owns what differs between them; who starts and stops them, and the load, are the caller's.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS_FOLDER = Path(__file__).resolve().parent / "peers"
MODEL_FILE = "churn_model_v2.pkl"

Record = dict[str, Any]
"""A learner as JSON has it: every property given, none null."""

Row = list[float]
"""The same learner as the estimator takes it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs.

    `python` is the interpreter of the peer's own environment; what a peer writes, it
    writes into `scratch`, an existing folder of its own.
    """

    python: Path
    port: int
    release: Path
    scratch: Path

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every peer's programs get.

        scikit-learn would share every tree among threads of OpenMP, one a core, and each
        waits for the slowest: the load generator has need of the same cores.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return inherited | {
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "OTEL_SDK_DISABLED": "true",
            "RELEASE": str(self.release),
        }

    def program(self, name: str) -> str:
        """Find a program in the peer's environment."""
        return str(self.python.parent / name)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that serves the estimator, or pretends to.

    `prepare` is run once before `command`, and is no part of the start; `command` is run
    in `scratch`. `ready`, `one` and `batch` are paths: the first answers 200 to GET, the
    others take a POST of the JSON that `one_body` and `batch_body` make. `probabilities`
    reads the answer to either; `serves` says whether the estimator is behind them.
    """

    name: str
    prepare: Callable[[Place], object]
    command: Callable[[Place], list[str]]
    environment: Callable[[Place], dict[str, str]]
    ready: str
    one: str
    batch: str
    one_body: Callable[[Record, Row], object]
    batch_body: Callable[[list[Record], list[Row]], object]
    probabilities: Callable[[Any], list[float]]
    serves: bool = True

    @property
    def needs(self) -> tuple[str, Path] | None:
        """The name of the peer's own environment and its pinned requirements, if it has one."""
        name = self.name.partition(" ")[0]
        requirements = PEERS_FOLDER / name / "requirements.txt"
        return (name, requirements) if requirements.exists() else None


def nothing_to_prepare(_place: Place) -> None:
    """Leave everything as it is."""


def naive() -> Peer:
    """FastAPI, uvicorn and scikit-learn, as a tutorial puts them together."""

    def command(place: Place) -> list[str]:
        return [
            place.program("uvicorn"),
            *("--app-dir", str(PEERS_FOLDER / "naive"), "--port", str(place.port)),
            *("--log-level", "warning", "--no-access-log", "app:app"),
        ]

    def probabilities(answer: dict[str, float] | list[dict[str, float]]) -> list[float]:
        answers = answer if isinstance(answer, list) else [answer]
        return [each["probability"] for each in answers]

    return Peer(
        name="naive",
        prepare=nothing_to_prepare,
        command=command,
        environment=lambda place: place.environment,
        ready="/health",
        one="/predict",
        batch="/predict/batch",
        one_body=lambda record, _row: record,
        batch_body=lambda records, _rows: records,
        probabilities=probabilities,
    )


def mlserver(name: str, batching: dict[str, float]) -> Peer:
    """MLServer with its own runtime for scikit-learn, in one process."""

    def prepare(place: Place) -> None:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": place.port,
            "grpc_port": 0,
            "parallel_workers": 0,
            "metrics_endpoint": None,
            "gzip_enabled": False,
        }
        model = {
            "name": "churn",
            "implementation": "mlserver_sklearn.SKLearnModel",
            **batching,
            "parameters": {
                "uri": str(place.release / MODEL_FILE),
                "extra": {"predict_fn": "predict_proba"},
            },
        }
        for title, content in (("settings", settings), ("model-settings", model)):
            path = place.scratch / f"{title}.json"
            path.write_text(json.dumps(content), encoding="utf-8")

    def body(_records: list[Record], rows: list[Row]) -> object:
        data = [value for row in rows for value in row]
        shape = [len(rows), len(rows[0])]
        return {"inputs": [{"name": "rows", "shape": shape, "datatype": "FP64", "data": data}]}

    path = "/v2/models/churn/infer"
    return Peer(
        name=name,
        prepare=prepare,
        command=lambda place: [place.program("mlserver"), "start", str(place.scratch)],
        environment=lambda place: place.environment,
        ready="/v2/models/churn/ready",
        one=path,
        batch=path,
        one_body=lambda record, row: body([record], [row]),
        batch_body=body,
        probabilities=lambda answer: answer["outputs"][0]["data"][1::2],
    )


def bentoml() -> Peer:
    """BentoML with one worker."""

    def command(place: Place) -> list[str]:
        return [
            *(place.program("bentoml"), "serve", "service:Churn"),
            *("--working-dir", str(PEERS_FOLDER / "bentoml")),
            *("--host", "127.0.0.1", "--port", str(place.port), "--quiet"),
        ]

    def environment(place: Place) -> dict[str, str]:
        return place.environment | {
            "BENTOML_HOME": str(place.scratch),
            "BENTOML_DO_NOT_TRACK": "true",
        }

    return Peer(
        name="bentoml",
        prepare=nothing_to_prepare,
        command=command,
        environment=environment,
        ready="/readyz",
        one="/predict",
        batch="/predict_batch",
        one_body=lambda _record, row: {"rows": [row]},
        batch_body=lambda _records, rows: {"rows": rows},
        probabilities=list,
    )


def mlflow() -> Peer:
    """MLflow's scoring server with one worker."""

    def environment(place: Place) -> dict[str, str]:
        return place.environment | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "ERROR",
            "UVICORN_ACCESS_LOG": "false",
            "UVICORN_LOG_LEVEL": "warning",
        }

    def prepare(place: Place) -> None:
        subprocess.run(
            [
                str(place.python),
                str(PEERS_FOLDER / "mlflow" / "save.py"),
                str(place.release / MODEL_FILE),
                str(place.scratch / "model"),
            ],
            check=True,
            cwd=place.scratch,
            env=environment(place),
        )

    def command(place: Place) -> list[str]:
        return [
            *(place.program("mlflow"), "models", "serve", "--env-manager", "local"),
            *("--model-uri", str(place.scratch / "model"), "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(place.port)),
        ]

    return Peer(
        name="mlflow",
        prepare=prepare,
        command=command,
        environment=environment,
        ready="/ping",
        one="/invocations",
        batch="/invocations",
        one_body=lambda _record, row: {"inputs": [row]},
        batch_body=lambda _records, rows: {"inputs": rows},
        probabilities=lambda answer: [both[1] for both in answer["predictions"]],
    )


def constant() -> Peer:
    """The limit: the server alone, with an answer that is always the same."""
    return Peer(
        name="constant",
        prepare=nothing_to_prepare,
        command=lambda place: [
            str(place.python),
            str(PEERS_FOLDER / "constant" / "serve.py"),
            str(place.port),
        ],
        environment=lambda place: place.environment,
        ready="/",
        one="/",
        batch="/",
        one_body=lambda record, _row: record,
        batch_body=lambda records, _rows: records,
        probabilities=lambda answer: [answer["probability"]],
        serves=False,
    )


PEERS: tuple[Peer, ...] = (
    naive(),
    mlserver("mlserver", {}),
    mlserver("mlserver batching", {"max_batch_size": 32, "max_batch_time": 0.0001}),
    bentoml(),
    mlflow(),
    constant(),
)
