"""The release folder: what is in it, that it is whole, and that it is the same each time."""

import hashlib
import json
import subprocess
from pathlib import Path

import joblib
import pytest
from packaging.version import Version

from repo_ml.errors import FormatError
from repo_ml.package import load_trained, origin, package, save_trained
from repo_ml.release import (
    Description,
    PackagedRelease,
    SignedRelease,
    Trained,
    open_release,
    release_name,
    release_version,
)
from repo_ml.schema import InputSchema

_FILES = {
    "churn_model_v2.pkl",
    "release.json",
    "input_schema.json",
    "README.md",
    "roc.png",
    "calibration.png",
}


@pytest.fixture
def packaged(signed: SignedRelease) -> PackagedRelease:
    (signed.folder / "model.sig").unlink()
    return PackagedRelease(signed.folder, signed.description)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_folder_holds_the_release_and_nothing_else(packaged: PackagedRelease) -> None:
    assert {path.name for path in packaged.folder.iterdir()} == _FILES
    assert [path.name for path in packaged.folder.parent.iterdir()] == ["churn-model-2.0.0"]


def test_same_training_gives_the_same_bytes(packaged: PackagedRelease, trained: Trained) -> None:
    again = package(trained, name="churn-model", version=Version("2.0.0"), out=Path("elsewhere"))

    assert _digests(again.folder) == _digests(packaged.folder)


def test_description_says_what_the_consumers_read(
    packaged: PackagedRelease, trained: Trained
) -> None:
    raw = json.loads((packaged.folder / "release.json").read_bytes())

    assert raw["name"] == "churn-model"
    assert raw["version"] == "2.0.0"
    assert raw["schema_version"] == 2
    assert raw["model_file"] == "churn_model_v2.pkl"
    assert raw["created"] == "2026-11-22T20:00:00Z"
    assert set(raw["libraries"]) == {"python", "scikit-learn", "numpy", "joblib"}
    assert raw["target"] == "churned"
    assert raw["threshold"] == trained.threshold
    assert raw["metrics"]["cross_validation"]["auc"] == trained.cross_validation.auc
    assert raw["golden_examples"][0]["probability"] == trained.golden_examples[0][1]


def test_description_is_read_as_it_was_written(packaged: PackagedRelease) -> None:
    opened = open_release(packaged.folder)

    assert opened == packaged
    assert opened.description.to_json() == (packaged.folder / "release.json").read_bytes()


def test_golden_examples_hold_after_the_pickle_and_the_json(packaged: PackagedRelease) -> None:
    raw = json.loads((packaged.folder / "release.json").read_bytes())
    schema = InputSchema.from_json((packaged.folder / "input_schema.json").read_bytes(), "it")

    estimator = joblib.load(packaged.folder / raw["model_file"])
    rows = schema.encode([example["input"] for example in raw["golden_examples"]])

    assert estimator.predict_proba(rows)[:, 1].tolist() == [
        example["probability"] for example in raw["golden_examples"]
    ]


def test_input_schema_is_the_file_that_was_given(
    packaged: PackagedRelease, trained: Trained
) -> None:
    assert (packaged.folder / "input_schema.json").read_bytes() == trained.schema.source


def test_model_card_states_scores_threshold_rule_and_inputs(
    packaged: PackagedRelease, trained: Trained
) -> None:
    card = (packaged.folder / "README.md").read_text()

    assert f"| {trained.cross_validation.auc} | {trained.held_out.auc} |" in card
    assert f"the cross-validated AUC on the same records is {trained.baseline_auc}." in card
    assert f"Threshold **{trained.threshold}**: the one with the highest F1" in card
    assert "| Clicks in 28 days | `clicks_28d` | integer, 0 to 100000 | yes |" in card
    assert "`90-100%`, or null | no |" in card


def test_pictures_are_png(packaged: PackagedRelease) -> None:
    for name in ("roc.png", "calibration.png"):
        assert (packaged.folder / name).read_bytes().startswith(b"\x89PNG")


def test_release_of_the_same_version_is_replaced(
    packaged: PackagedRelease, trained: Trained
) -> None:
    (packaged.folder / "model.sig").write_text("of what was there before")

    package(trained, name="churn-model", version=Version("2.0.0"), out=packaged.folder.parent)

    assert {path.name for path in packaged.folder.iterdir()} == _FILES


def test_something_else_in_the_way_is_left_alone(trained: Trained) -> None:
    thesis = Path("releases/churn-model-2.0.0/thesis.txt")
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")

    with pytest.raises(FormatError, match="expected a release or nothing; move it away"):
        package(trained, name="churn-model", version=Version("2.0.0"), out=Path("releases"))

    assert thesis.read_text() == "years of work"


def test_failure_leaves_nothing_half_written(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")

    with pytest.raises(FormatError, match="SOURCE_DATE_EPOCH: expected seconds since 1970"):
        package(trained, name="churn-model", version=Version("2.0.0"), out=Path("releases"))

    assert not Path("releases").exists()


def test_origin_is_the_commit_and_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    for variable in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"):
        monkeypatch.setenv(variable, "2026-01-02T03:04:05Z")
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)  # noqa: S603, S607  # git, whichever there is

    made = origin(tmp_path)

    assert made.created == "2026-01-02T03:04:05Z"
    assert made.git_revision is not None
    assert len(made.git_revision) == 40


def test_origin_outside_of_git_has_no_revision(tmp_path: Path) -> None:
    made = origin(tmp_path)

    assert made.git_revision is None
    assert made.created == "2026-11-22T20:00:00Z"


@pytest.mark.parametrize(
    "text",
    ["2", "2.0", "2.0.0.0", "v2.0.0", "2.0.0rc1", "2.0.0+local", "1!2.0.0", "02.0.0", "x", ""],
)
def test_version_of_other_than_three_numbers_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="expected three numbers"):
        release_version(text)


@pytest.mark.parametrize("name", ["", "Churn", "a_b", "a--b", "-a", "a/b", "a b", "é"])
def test_name_that_no_repository_can_have_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="expected lower-case letters, digits"):
        release_name(name)


def test_description_refuses_such_a_name_too(packaged: PackagedRelease) -> None:
    raw = json.loads(packaged.description.to_json())

    with pytest.raises(FormatError, match="expected lower-case letters"):
        Description.from_json(json.dumps({**raw, "name": "../../etc"}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"name": "a"}'])
def test_description_that_cannot_be_read_is_refused(content: bytes) -> None:
    with pytest.raises(FormatError, match=r"release\.json: cannot be read"):
        Description.from_json(content)


@pytest.mark.parametrize("path", ["missing", "a-file"])
def test_what_is_no_release_folder_is_refused(path: str) -> None:
    Path("a-file").touch()

    with pytest.raises(FormatError, match=r"expected a release folder, got no release\.json"):
        open_release(Path(path))


def test_trained_model_is_kept_between_train_and_package(trained: Trained) -> None:
    save_trained(trained, Path("build/trained.joblib"))

    loaded = load_trained(Path("build/trained.joblib"))

    assert loaded.golden_examples == trained.golden_examples
    assert [path.name for path in Path("build").iterdir()] == ["trained.joblib"]


def test_missing_trained_model_is_refused() -> None:
    with pytest.raises(FormatError, match="expected a trained model; make one: repo-ml train"):
        load_trained(Path("build/trained.joblib"))


def test_trained_model_that_does_not_unpickle_is_refused() -> None:
    Path("trained.joblib").write_bytes(b"\x80\x04 no pickle")

    with pytest.raises(FormatError, match="cannot be read"):
        load_trained(Path("trained.joblib"))


def test_another_pickle_is_refused() -> None:
    joblib.dump({"a": 1}, "trained.joblib")

    with pytest.raises(FormatError, match="expected a trained model, got dict"):
        load_trained(Path("trained.joblib"))
