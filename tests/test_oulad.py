"""The OULAD tables: who counts, and what is seen of them; made tables, and the real ones."""

import gzip
import os
from pathlib import Path

import polars as pl
import pytest

from conftest import shipped
from repo_ml.data.oulad import oulad
from repo_ml.data.table import training_of
from repo_ml.errors import DataError

_TABLES = {
    "studentInfo": (
        "code_module,code_presentation,id_student,gender,region,highest_education,imd_band,"
        "age_band,num_of_prev_attempts,studied_credits,disability,final_result\n"
        "AAA,2013J,1,F,X,HE Qualification,90-100%,0-35,0,60,N,Pass\n"
        "AAA,2013J,2,M,X,Lower Than A Level,10-20,35-55,1,120,N,Withdrawn\n"
        "AAA,2013J,3,M,X,Lower Than A Level,?,35-55,0,30,N,Withdrawn\n"
        "AAA,2013J,4,M,X,Lower Than A Level,?,55<=,0,30,N,Fail\n"
        "BBB,2014B,1,F,X,HE Qualification,90-100%,0-35,0,60,N,Pass\n"
    ),
    "studentRegistration": (
        "code_module,code_presentation,id_student,date_registration,date_unregistration\n"
        "AAA,2013J,1,-100,?\nAAA,2013J,2,-5,28\nAAA,2013J,3,-5,27\nAAA,2013J,4,?,?\n"
        "BBB,2014B,1,-10,?\n"
    ),
    "studentVle": (
        "code_module,code_presentation,id_student,id_site,date,sum_click\n"
        "AAA,2013J,1,7,-1,50\nAAA,2013J,1,7,0,3\nAAA,2013J,1,8,0,4\nAAA,2013J,1,7,27,5\n"
        "AAA,2013J,1,7,28,60\nAAA,2013J,2,7,28,1\nBBB,2014B,1,7,26,9\n"
    ),
    "assessments": (
        "code_module,code_presentation,id_assessment,assessment_type,date,weight\n"
        "AAA,2013J,100,TMA,19,10\nAAA,2013J,101,TMA,26,10\nAAA,2013J,102,TMA,40,10\n"
    ),
    "studentAssessment": (
        "id_assessment,id_student,date_submitted,is_banked,score\n"
        "100,1,18,0,80\n101,1,27,0,71\n102,1,28,0,10\n100,2,-1,1,90\n100,4,5,0,?\n"
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for table, text in _TABLES.items():
        (tmp_path / f"{table}.csv").write_text(text)
    return tmp_path


def test_who_left_before_day_28_does_not_count(folder: Path) -> None:
    enrolments = oulad(folder)

    assert enrolments["studied_credits"].to_list() == ["60", "120", "30"]
    assert enrolments["churned"].to_list() == [0, 1, 0]


def test_presentation_whose_clicks_end_before_day_27_does_not_count(folder: Path) -> None:
    (folder / "studentVle.csv").write_text(
        _TABLES["studentVle"].replace("BBB,2014B,1,7,26,9", "BBB,2014B,1,7,27,9")
    )

    enrolments = oulad(folder)

    assert enrolments.height == 4


def test_days_0_to_27_are_seen_and_no_others(folder: Path) -> None:
    first = oulad(folder).row(0, named=True)

    assert first["clicks_28d"] == 12
    assert first["active_days_28d"] == 2
    assert first["last_active_day"] == 27
    assert first["assessments_submitted_28d"] == 2
    assert first["mean_score_28d"] == 75.5


def test_nothing_done_is_zero_and_has_no_last_day_or_score(folder: Path) -> None:
    second = oulad(folder).row(1, named=True)

    assert (second["clicks_28d"], second["active_days_28d"]) == (0, 0)
    assert second["assessments_submitted_28d"] == 0
    assert second["last_active_day"] is None
    assert second["mean_score_28d"] is None


def test_submission_without_a_score_counts_and_has_none(folder: Path) -> None:
    third = oulad(folder).row(2, named=True)

    assert third["assessments_submitted_28d"] == 1
    assert third["mean_score_28d"] is None


def test_question_mark_is_missing_and_the_lost_percent_sign_is_put_back(folder: Path) -> None:
    enrolments = oulad(folder)

    assert enrolments["imd_band"].to_list() == ["90-100%", "10-20%", None]
    assert enrolments["registration_day"].to_list() == ["-100", "-5", None]


def test_enrolments_fit_both_shipped_schemas(folder: Path) -> None:
    enrolments = oulad(folder)

    for number in (1, 2):
        training = training_of(enrolments, shipped(number), "churned", None, "OULAD")
        assert len(training.records) == 3


def test_gender_and_disability_do_not_come_along(folder: Path) -> None:
    columns = oulad(folder).columns

    assert {"gender", "disability", "region"}.isdisjoint(columns)


def test_compressed_tables_are_read_alike(folder: Path) -> None:
    plain = oulad(folder)
    for table, text in _TABLES.items():
        (folder / f"{table}.csv").unlink()
        (folder / f"{table}.csv.gz").write_bytes(gzip.compress(text.encode()))

    compressed = oulad(folder)

    assert compressed.equals(plain)


def test_missing_table_is_refused(folder: Path) -> None:
    (folder / "studentVle.csv").unlink()

    with pytest.raises(DataError, match=r"expected studentVle\.csv or studentVle\.csv\.gz"):
        oulad(folder)


def test_table_with_other_columns_is_refused(folder: Path) -> None:
    (folder / "studentInfo.csv").write_text("a,b\n1,2\n")

    with pytest.raises(DataError, match="cannot be read as OULAD") as refused:
        oulad(folder)

    assert "\n" not in str(refused.value)


def test_table_with_words_for_days_is_refused(folder: Path) -> None:
    (folder / "studentVle.csv").write_text(_TABLES["studentVle"].replace(",28,60", ",later,60"))

    with pytest.raises(DataError, match="cannot be read as OULAD"):
        oulad(folder)


def test_tables_without_a_whole_presentation_are_refused(folder: Path) -> None:
    (folder / "studentVle.csv").write_text(_TABLES["studentVle"].splitlines()[0] + "\n")

    with pytest.raises(DataError, match="expected presentations with clicks up to day 27"):
        oulad(folder)


@pytest.mark.skipif(
    not os.environ.get("EDUSTREAM_OULAD"),
    reason="EDUSTREAM_OULAD does not name a folder with the real tables",
)
def test_real_tables_give_the_enrolments_of_the_four_complete_presentations() -> None:
    enrolments = oulad(Path(os.environ["EDUSTREAM_OULAD"]))

    training = training_of(enrolments, shipped(2), "churned", None, "OULAD")

    assert len(training.records) == 4084
    assert enrolments.filter(pl.col("clicks_28d") == 0).height < 400
    assert 0.1 < training.outcome.mean() < 0.25
