"""Owns reading the OULAD tables; the schema decides later what a model sees of them.

Kuzilek, Hlosta, Zdrahal (2017), Open University Learning Analytics dataset,
Scientific Data 4:170171. Days count from the start of a presentation.
"""

from pathlib import Path

import polars as pl  # noqa: TID251

from repo_ml.errors import DataError

_WINDOW = 28  # days 0 to 27 are seen, the forecast is made on day 28
_PRESENTATION = ["code_module", "code_presentation"]
_ENROLMENT = [*_PRESENTATION, "id_student"]


def oulad(folder: Path) -> pl.DataFrame:
    """Read the enrolments that a forecast on day 28 is about, one row each.

    These are the enrolments that had not ended before day 28, in presentations
    whose clicks are recorded up to that day. `churned` is 1 if the learner
    withdrew from day 28 on.

    Args:
        folder: The official tables, as `.csv` or `.csv.gz`.

    Raises:
        DataError: A table is missing or another, or no enrolment is left.
    """
    try:
        enrolments = _enrolments(folder).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{folder}: cannot be read as OULAD: {str(error).splitlines()[0]}"
        ) from error
    if enrolments.is_empty():
        raise DataError(
            f"{folder}: expected presentations with clicks up to day {_WINDOW - 1}, got none"
        )
    return enrolments


def _enrolments(folder: Path) -> pl.LazyFrame:
    info = _scan(folder, "studentInfo")
    registration = _scan(folder, "studentRegistration").select(
        *_ENROLMENT,
        registration_day=pl.col("date_registration"),
        left=pl.col("date_unregistration").cast(pl.Int64),
    )
    return (
        info.join(registration, on=_ENROLMENT)
        .filter(pl.col("left").is_null() | (pl.col("left") >= _WINDOW))
        .join(_clicks(folder), on=_PRESENTATION, how="semi")
        .join(_activity(folder), on=_ENROLMENT, how="left")
        .join(_assessments(folder), on=_ENROLMENT, how="left")
        .sort(_ENROLMENT)
        .select(
            "highest_education",
            # one band of the official table lacks its percent sign
            pl.col("imd_band").str.strip_suffix("%") + "%",
            "age_band",
            "num_of_prev_attempts",
            "studied_credits",
            "registration_day",
            pl.col("clicks_28d", "active_days_28d", "assessments_submitted_28d").fill_null(0),
            "last_active_day",
            "mean_score_28d",
            churned=(pl.col("final_result") == "Withdrawn").cast(pl.Int8),
        )
    )


def _scan(folder: Path, table: str) -> pl.LazyFrame:
    for path in (folder / f"{table}.csv", folder / f"{table}.csv.gz"):
        if path.exists():
            return pl.scan_csv(path, null_values="?", infer_schema=False)
    raise DataError(f"{folder}: expected {table}.csv or {table}.csv.gz; is this the OULAD folder?")


def _day(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64)


def _clicks(folder: Path) -> pl.LazyFrame:
    """Give the clicks of the presentations that are recorded for the whole window."""
    clicks = _scan(folder, "studentVle").with_columns(_day("date"), _day("sum_click"))
    recorded = clicks.group_by(_PRESENTATION).agg(pl.col("date").max())
    complete = recorded.filter(pl.col("date") >= _WINDOW - 1)
    return clicks.join(complete.select(_PRESENTATION), on=_PRESENTATION, how="semi")


def _activity(folder: Path) -> pl.LazyFrame:
    return (
        _clicks(folder)
        .filter(pl.col("date").is_between(0, _WINDOW - 1))
        .group_by(_ENROLMENT)
        .agg(
            clicks_28d=pl.col("sum_click").sum(),
            active_days_28d=pl.col("date").n_unique().cast(pl.Int64),
            last_active_day=pl.col("date").max(),
        )
    )


def _assessments(folder: Path) -> pl.LazyFrame:
    """Count what was handed in and take its mean score; results carried over do not count."""
    presentation = _scan(folder, "assessments").select("id_assessment", *_PRESENTATION)
    return (
        _scan(folder, "studentAssessment")
        .filter(_day("date_submitted").is_between(0, _WINDOW - 1), pl.col("is_banked") == "0")
        .join(presentation, on="id_assessment")
        .group_by(_ENROLMENT)
        .agg(
            assessments_submitted_28d=pl.len().cast(pl.Int64),
            mean_score_28d=pl.col("score").cast(pl.Float64).mean().round(1),
        )
    )
