"""Owns the folder that a release is handed over in, up to its signature.

The only module that pickles. Training is left to `train`, the signature to `sign`.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import joblib  # noqa: TID251
from packaging.version import Version

from repo_ml.card import card
from repo_ml.errors import FormatError
from repo_ml.plots import calibration, roc
from repo_ml.release import (
    CARD_FILE,
    DESCRIPTION_FILE,
    SCHEMA_FILE,
    Description,
    Origin,
    PackagedRelease,
    Trained,
    figures,
)
from repo_ml.schema import InputSchema


def package(trained: Trained, *, name: str, version: Version, out: Path) -> PackagedRelease:
    """Write the folder `name-version` below `out`, whole or not at all.

    A folder of that name is replaced if it holds a release.

    Raises:
        FormatError: The name cannot name a release, or something else is in the way.
    """
    description = Description(
        name=name,
        version=version,
        origin=origin(Path.cwd()),
        libraries={
            "python": platform.python_version(),
            **{library: installed(library) for library in ("scikit-learn", "numpy", "joblib")},
        },
        target=trained.target,
        threshold=trained.threshold,
        metrics={
            "cross_validation": figures(trained.cross_validation),
            "held_out": figures(trained.held_out),
            **(
                {"baseline": {"auc": trained.baseline_auc}}
                if trained.baseline_auc is not None
                else {}
            ),
        },
        golden_examples=trained.golden_examples,
    )
    folder = out / f"{name}-{version}"
    if folder.exists() and not (folder / DESCRIPTION_FILE).exists():
        raise FormatError(f"{folder}: expected a release or nothing; move it away")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".packaging-") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        joblib.dump(trained.estimator, made / description.model_file)
        (made / DESCRIPTION_FILE).write_bytes(description.to_json())
        (made / SCHEMA_FILE).write_bytes(trained.schema.source)
        (made / CARD_FILE).write_text(card(trained, description), encoding="utf-8")
        (made / "roc.png").write_bytes(roc(trained))
        (made / "calibration.png").write_bytes(calibration(trained))
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    return PackagedRelease(folder, description)


def origin(folder: Path) -> Origin:
    """Name the commit that `folder` is at, and its time.

    The time is `SOURCE_DATE_EPOCH` where that is set, else the commit's,
    else now (reproducible-builds.org, SOURCE_DATE_EPOCH).

    Raises:
        FormatError: `SOURCE_DATE_EPOCH` is no time.
    """
    revision = _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or _git(folder, "log", "-1", "--format=%ct")
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC) if seconds else datetime.now(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise FormatError(
            f"SOURCE_DATE_EPOCH: expected seconds since 1970, got {seconds}"
        ) from error
    return Origin(revision, moment.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  # fixed arguments
            ["git", "-C", str(folder), *arguments],  # noqa: S607  # whichever git the user has
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def scorer(packaged: PackagedRelease) -> Callable[[Mapping[str, Any]], float]:
    """Load the model of a release that was made here, to ask it for probabilities.

    Raises:
        FormatError: It does not unpickle, or its schema cannot be read.
    """
    path = packaged.folder / packaged.description.model_file
    try:
        estimator = joblib.load(path)
    except Exception as error:  # a pickle may raise anything
        raise FormatError(f"{path}: does not unpickle ({error!r}); package it again") from error
    source = packaged.folder / SCHEMA_FILE
    schema = InputSchema.from_json(source.read_bytes(), str(source))

    def score(record: Mapping[str, Any]) -> float:
        return float(estimator.predict_proba(schema.encode([record]))[0, 1])

    return score


def save_trained(trained: Trained, path: Path) -> None:
    """Keep what `train` gave until `package` takes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    joblib.dump(trained, partial)
    partial.replace(path)


def load_trained(path: Path) -> Trained:
    """Read what `save_trained` kept; only from a folder of one's own, it is a pickle.

    Raises:
        FormatError: It is something else.
    """
    try:
        trained = joblib.load(path)
    except FileNotFoundError as error:
        raise FormatError(f"{path}: expected a trained model; make one: repo-ml train") from error
    except Exception as error:  # a pickle may raise anything
        raise FormatError(f"{path}: cannot be read ({error!r}); repeat: repo-ml train") from error
    if not isinstance(trained, Trained):
        raise FormatError(f"{path}: expected a trained model, got {type(trained).__name__}")
    return trained
