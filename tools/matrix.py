"""The matrix: every schema version of the model against every released contract of the API.

Owns the table and the page `matrix.html`; the verdicts are repo-ml's, read from the registry
that they are kept in.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from stage import (
    API,
    ML,
    ROOT,
    Stage,
    StageError,
    build_stage,
    contract_versions,
    install_programs,
    program,
    registry_command,
    run,
)

PAGE = ROOT / "matrix.html"
Verdict = dict[str, Any]


def main() -> int:
    """Build, verify, print, and write the page."""
    try:
        install_programs()
        with build_stage() as stage:
            verdicts = verify_all(stage)
    except StageError as error:
        print(f"matrix: error: {error}", file=sys.stderr)
        return 1
    print(table(verdicts))
    PAGE.write_text(page(verdicts), encoding="utf-8")
    print(f"\nwritten: {PAGE.name}, with the reason and a counter-example for every no")
    return 0


def verify_all(stage: Stage) -> list[Verdict]:
    """Release every contract and every schema version, and read what came of each pair."""
    run(stage.environment, ROOT, registry_command("up"), quiet=True)
    for folder in contract_versions():
        command = [program(API, "repo-api"), "contract", "publish", str(folder)]
        run(stage.environment, API, command, quiet=True)
    verdicts = []
    for schema in sorted((ML / "src" / "repo_ml" / "schemas").glob("v*.json")):
        print(f"matrix: releasing the model with schema {schema.stem}", file=sys.stderr)
        ml = program(ML, "repo-ml")
        run(stage.environment, ML, [ml, "release", "--schema", schema.stem], quiet=True)
        release = f"releases/churn-model-{schema.stem[1:]}.0.0"
        read = [ml, "contract", "verify", release, "--contracts", stage.registry, "--json"]
        said = run(stage.environment, ML, read, quiet=True)
        verdicts += [json.loads(line) for line in said.splitlines()]
    return verdicts


def table(verdicts: list[Verdict]) -> str:
    """Write the matrix as text: a row an API, a column a model."""
    models = sorted({verdict["model_version"] for verdict in verdicts})
    apis = sorted({verdict["consumer_version"] for verdict in verdicts})
    rows = [
        ["", *(f"model {version}" for version in models)],
        *([f"API {api}", *(short(find(verdicts, api, model)) for model in models)] for api in apis),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def short(verdict: Verdict) -> str:
    """Say it in a few words."""
    if not verdict["misfits"]:
        return "fits"
    reasons = [f"{misfit['property']} {misfit['reason']}" for misfit in verdict["misfits"]]
    return "does not fit: " + "; ".join(reasons)


def find(verdicts: list[Verdict], api: str, model: str) -> Verdict:
    """Pick the verdict of one pair."""
    return next(
        verdict
        for verdict in verdicts
        if (verdict["consumer_version"], verdict["model_version"]) == (api, model)
    )


def page(verdicts: list[Verdict]) -> str:
    """Write the matrix as a page that needs nothing else."""
    models = sorted({verdict["model_version"] for verdict in verdicts})
    apis = sorted({verdict["consumer_version"] for verdict in verdicts})
    head = "".join(f'<th scope="col">model {escape(version)}</th>' for version in models)
    rows = "".join(
        f'<tr><th scope="row">API {escape(api)}</th>'
        + "".join(cell(find(verdicts, api, model)) for model in models)
        + "</tr>"
        for api in apis
    )
    template = Template((Path(__file__).parent / "matrix.template.html").read_text("utf-8"))
    return template.substitute(head=head, rows=rows)


def cell(verdict: Verdict) -> str:
    """Write one verdict; a no opens to its reasons and a request that would fail."""
    total, failed = verdict["interactions"], len(verdict["failed"])
    count = f"<small>{total - failed} of {total} interactions</small>"
    if not verdict["misfits"]:
        return f'<td class="fits"><b>fits</b>{count}</td>'
    reasons = "".join(
        f"<li><code>{escape(misfit['property'])}</code> {escape(misfit['reason'])}</li>"
        for misfit in verdict["misfits"]
    )
    example = escape(json.dumps(verdict["misfits"][0]["counterexample"], indent=2))
    return (
        f'<td class="not"><details><summary><b>does not fit</b>{count}</summary>'
        f"<ul>{reasons}</ul><p>A request that would fail:</p><pre>{example}</pre></details></td>"
    )


if __name__ == "__main__":
    sys.exit(main())
