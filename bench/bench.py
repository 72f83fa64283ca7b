"""The benchmark: serving, transfer and delivery beside what a user would pick instead.

Owns the order of things, and the stage: a registry of its own, one release, one machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import delivery
import serving
import transfer
from machine import ROOT, BenchError, check_programs, run, say
from peers import Place
from report import Results, draw_picture, write_page
from stage import (
    API,
    ML,
    Stage,
    StageError,
    build_stage,
    install_programs,
    program,
    registry_command,
)

MIB = 1 << 20
EPILOG = """\
It takes about a quarter of an hour and writes bench/RESULTS.md and bench/results.png. The short
form takes a few minutes, shows that everything works, and writes into .tox/; its figures mean
nothing. Stop what else runs on the machine first."""


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="only see that it works")
    short: bool = parser.parse_args().short
    into = ROOT / ".tox" / "bench-short" if short else ROOT / "bench"
    into.mkdir(parents=True, exist_ok=True)
    try:
        check_programs()
        install_programs()
        with build_stage() as stage:
            results = measure(stage, short=short)
    except (BenchError, StageError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    write_page(results, into / "RESULTS.md")
    draw_picture(results, into / "results.png")
    print(f"written: {into / 'RESULTS.md'}, {into / 'results.png'}")
    return 0


def measure(stage: Stage, *, short: bool) -> Results:
    """Measure everything on a stage."""
    busy = os.getloadavg()[0]
    plan = serving.Plan(1, 1, (1, 32)) if short else serving.Plan(3, 3, (1, 32, 256))
    sizes = {"1 MiB": MIB} if short else {"64 MiB": 64 * MIB, "1 GiB": 1024 * MIB}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        folder = Path(scratch)
        run(registry_command("up"), environment=stage.environment)
        release = make_release(stage, folder)
        learners, python = folder / "learners.csv", Path(program(ML, "python"))
        sample = serving.draw_sample(learners, serving.SCHEMA, release, python)
        own = serving.repo_api(
            stage.environment | {"EDUSTREAM_TRUSTED_KEY": str(API / ".keys" / "repo-ml.pub")}
        )
        place = Place(Path(program(API, "python")), stage.port, release, folder)
        served = serving.measure_all(own, place, sample, plan)
        look = delivery.seconds_of_a_look(stage)
        say("making releases to deliver")
        versions = delivery.make_versions(stage, release, folder, 2 if short else 10)
        delivered = delivery.measure(stage, own, place, versions, sample.records[0])
        sizes = {transfer.SMALL: 0, **sizes}
        transferred = transfer.measure_all(stage, release, sizes, plan.rounds)
    return Results(
        plan=plan,
        serving=served,
        transfer=transferred,
        delivery=delivered,
        look=look,
        busy=busy,
        when=f"{datetime.now(UTC):%Y-%m-%d}",
    )


def make_release(stage: Stage, folder: Path) -> Path:
    """Train the model that all serve, and publish it."""
    say("training the model")
    environment = stage.environment | {"EDUSTREAM_SIGNING_KEY": str(ML / ".keys" / "signing.pem")}
    for arguments in (["data", "synthetic"], ["release", "--data", "learners.csv"]):
        run([program(ML, "repo-ml"), *arguments], cwd=folder, environment=environment)
    return folder / "releases" / "churn-model-2.0.0"


if __name__ == "__main__":
    sys.exit(main())
