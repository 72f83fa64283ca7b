"""Made-up learners: they fit the schemas, and they are like learners."""

from io import StringIO

import polars as pl
import pytest

from conftest import shipped
from repo_ml.data.synthetic import synthetic
from repo_ml.data.table import training_of


@pytest.fixture(scope="module")
def learners() -> pl.DataFrame:
    return synthetic(20000, 7)


@pytest.mark.parametrize("number", [1, 2])
def test_learners_fit_the_shipped_schemas(learners: pl.DataFrame, number: int) -> None:
    training = training_of(learners, shipped(number), "churned", None, "made-up learners")

    assert len(training.records) == 20000


def test_same_seed_gives_the_same_learners(learners: pl.DataFrame) -> None:
    assert synthetic(20000, 7).equals(learners)
    assert not synthetic(20000, 8).equals(learners)


def test_learners_survive_their_way_through_a_csv_file(learners: pl.DataFrame) -> None:
    written = learners.head(500)

    read = pl.read_csv(StringIO(written.write_csv()), schema=written.schema)

    assert read.equals(written)


def test_one_learner_can_be_drawn() -> None:
    assert synthetic(1, 0).height == 1


def test_about_one_learner_in_five_leaves(learners: pl.DataFrame) -> None:
    share = learners["churned"].to_numpy().mean()

    assert 0.15 < share < 0.25


def test_those_who_leave_were_less_active(learners: pl.DataFrame) -> None:
    stayed, left = (learners.filter(pl.col("churned") == outcome) for outcome in (0, 1))

    assert left["clicks_28d"].to_numpy().mean() < 0.8 * stayed["clicks_28d"].to_numpy().mean()


def test_what_is_not_known_is_missing_for_a_reason(learners: pl.DataFrame) -> None:
    silent = learners.filter(pl.col("active_days_28d") == 0)
    without = learners.filter(pl.col("assessments_submitted_28d") == 0)

    assert silent["last_active_day"].null_count() == silent.height > 0
    assert silent["clicks_28d"].sum() == 0
    assert without["mean_score_28d"].null_count() == without.height > 0
    assert 0.02 < learners["imd_band"].null_count() / learners.height < 0.05


def test_days_and_clicks_do_not_contradict_each_other(learners: pl.DataFrame) -> None:
    active = learners.filter(pl.col("active_days_28d") > 0)

    assert active.filter(pl.col("clicks_28d") < pl.col("active_days_28d")).is_empty()
    assert active.filter(pl.col("last_active_day") < pl.col("active_days_28d") - 1).is_empty()
