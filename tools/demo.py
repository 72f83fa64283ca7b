"""The role play, both roles in one terminal: from training to a served prediction, and refusals.

Owns the story. Every step is a command that a person could type; it runs against a registry
of its own, on a free port, and leaves every other one alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stage import (
    API,
    ML,
    ROOT,
    Stage,
    StageError,
    build_stage,
    contract_versions,
    expect,
    install_programs,
    program,
    registry_command,
    run,
)

MODEL = "edustream/churn-model"
READY_SECONDS = 60
LEARNER = {
    "highest_education": "Lower Than A Level",
    "age_band": "0-35",
    "num_of_prev_attempts": 1,
    "studied_credits": 120,
    "clicks_28d": 15,
    "active_days_28d": 2,
}
STOPS_IN_SECONDS = 10


def main() -> int:
    """Play every act; 0 if each went as told."""
    began = time.monotonic()
    try:
        install()
        with build_stage() as stage:  # its ports are taken at once
            play(stage)
    except StageError as error:
        print(f"demo: error: {error}", file=sys.stderr)
        return 1
    say(f"\nThat was the whole story, in {time.monotonic() - began:.0f} seconds.")
    say("Play it yourselves, in two terminals: see README.md.")
    return 0


def install() -> None:
    """Let each team install its own program."""
    act("Two teams, each with its own programs and nothing of the other's")
    for team in (ML, API):
        typed(ROOT, f"./toxw run -c {team.name} -e app --notest")
    install_programs()


def play(stage: Stage) -> None:
    """Tell the story, act by act."""
    act("The platform team starts the registry and hands out keys")
    typed(ROOT, "./toxw run -e registry -- up")
    run(stage.environment, ROOT, registry_command("up"))

    act("The backend says what it will send: it releases its contract")
    typed(API, "repo-api contract publish")
    run(
        stage.environment,
        API,
        [program(API, "repo-api"), "contract", "publish", str(contract_versions()[-1])],
    )

    act("The data scientist trains a model and releases it")
    typed(ML, "python train_publish.py")
    said = run(stage.environment, ML, [program(ML, "python"), "train_publish.py"])
    expect("DEPLOY EXITOSO", said)
    digest = said.rpartition("@")[2].strip()

    act("The backend pulls, verifies, loads, and answers")
    with serving(stage):
        ask(stage)

    act("Somebody deletes the release, and the backend is started again")
    url = f"http://{stage.registry}/v2/{MODEL}/manifests/{digest}"
    typed(ROOT, f"curl -X DELETE {url}")
    request(urllib.request.Request(url, method="DELETE"))
    typed(API, "python serve_consume.py")
    refusal = run(
        stage.environment, API, [program(API, "python"), *serve_arguments(stage)], expected=1
    )
    expect("not released", refusal)

    act("The data scientist publishes it again")
    typed(ML, "repo-ml publish releases/churn-model-2.0.0")
    run(stage.environment, ML, [program(ML, "repo-ml"), "publish", "releases/churn-model-2.0.0"])
    with serving(stage):
        ask(stage)

    act("The data scientist wants more: a schema v3 that requires mean_score_28d")
    schema = stage.folder / "v3.json"
    schema.write_text(schema_that_requires("mean_score_28d"), encoding="utf-8")
    typed(ML, "repo-ml release --schema v3.json --version 2.1.0")
    release = [program(ML, "repo-ml"), "release", "--schema", str(schema), "--version", "2.1.0"]
    expect("breaks the contract of repo-api", run(stage.environment, ML, release, expected=1))
    say("Nothing was published, and nothing broke: the contract said so first.")


@contextmanager
def serving(stage: Stage) -> Iterator[None]:
    """Run the backend for as long as it is asked something."""
    typed(API, "python serve_consume.py")
    process = subprocess.Popen(
        [program(API, "python"), *serve_arguments(stage)],
        cwd=API,
        env=stage.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ready = threading.Event()
    reading = threading.Thread(target=relay, args=(process, ready))
    reading.start()
    try:
        if not ready.wait(READY_SECONDS) or process.poll() is not None:
            raise StageError("the backend did not get ready")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOPS_IN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        reading.join()


def relay(process: subprocess.Popen[str], ready: threading.Event) -> None:
    """Show what the backend says, and notice when it is ready."""
    for line in process.stdout or ():
        print(f"    {line}", end="", flush=True)
        if "cargado y listo" in line:
            ready.set()
    ready.set()  # it has ended, and nobody need wait any longer


def ask(stage: Stage) -> None:
    """Send a learner, and show the prediction."""
    url, body = f"http://localhost:{stage.port}/predict", json.dumps(LEARNER)
    typed(API, f"curl -H 'Content-Type: application/json' -d '{body}' {url}")
    headers = {"Content-Type": "application/json"}
    answer = request(urllib.request.Request(url, body.encode(), headers))
    print(f"    {answer}")
    expect("probability", answer)


def request(asked: urllib.request.Request) -> str:
    """Send a request to this machine, past any proxy, and give the body of the answer."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(asked, timeout=READY_SECONDS) as answer:
            body: bytes = answer.read()
            return body.decode()
    except OSError as error:
        raise StageError(f"{asked.full_url}: {error}") from error


def schema_that_requires(name: str) -> str:
    """Write the newest input schema with one more property required."""
    schemas = sorted((ML / "src" / "repo_ml" / "schemas").glob("v*.json"))
    schema = json.loads(schemas[-1].read_text(encoding="utf-8"))
    schema["required"].append(name)
    return json.dumps(schema, indent=2)


def serve_arguments(stage: Stage) -> list[str]:
    """Serve on 8000 as always, or on another port where somebody else is there."""
    return ["serve_consume.py", *([] if stage.port == 8000 else ["--port", str(stage.port)])]  # noqa: PLR2004  the backend's default


def act(title: str) -> None:
    """Announce an act."""
    say(f"\n== {title}")


def typed(folder: Path, command: str) -> None:
    """Show a command as somebody would type it."""
    where = folder.name if folder != ROOT else "edustream"
    say(f"{where}$ {command}")


def say(line: str) -> None:
    """Print a line of the narrator, bold where the terminal can."""
    print(f"\033[1m{line}\033[0m" if sys.stdout.isatty() else line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
