"""Owns CSV files: records of an input schema, whosever they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl  # noqa: TID251

from repo_ml.errors import DataError, OutsideSchemaError
from repo_ml.release import Training
from repo_ml.schema import InputSchema, Property

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def read_table(path: Path, schema: InputSchema, target: str, positive: str | None) -> Training:
    """Read records and their outcome; the first line of the file names its columns.

    An empty cell is a missing value. Columns that neither the schema nor
    `target` names are ignored.

    Args:
        path: A CSV file in UTF-8.
        schema: What a record may be.
        target: The column of the outcome.
        positive: The outcome that the model forecasts; without it the column
            must hold two of true and false, yes and no, 1 and 0.

    Raises:
        DataError: The file is empty or no CSV, lacks a column or has it twice,
            or has one outcome only.
        OutsideSchemaError: It holds values that the schema does not allow.
    """
    try:
        cells = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.NoDataError as error:
        raise DataError(f"{path}: expected a CSV file with a header, got an empty file") from error
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: expected CSV, got {str(error).splitlines()[0]}") from error
    for name in cells.columns:  # what polars makes of a second column of one name
        if name.endswith("_duplicated_0"):
            twice = name.removesuffix("_duplicated_0")
            raise DataError(f"{path}: expected one column {twice}, got several")
    return training_of(cells, schema, target, positive, str(path))


def training_of(
    cells: pl.DataFrame, schema: InputSchema, target: str, positive: str | None, source: str
) -> Training:
    """Check a frame against the schema as if it came from a file; see `read_table`."""
    cells = cells.cast(pl.String)
    if schema.find(target) is not None:
        raise DataError(
            f"{source}: expected an outcome that is no input, got column {target}; "
            "take it out of the schema"
        )
    needed = [p.name for p in schema.properties if p.required] + [target]
    missing = [name for name in needed if name not in cells.columns]
    if missing:
        raise DataError(
            f"{source}: expected the columns {', '.join(missing)}, "
            f"got {', '.join(cells.columns)}; the schema requires them"
        )
    if cells.is_empty():
        raise DataError(f"{source}: expected rows below the header, got none")
    known = [p for p in schema.properties if p.name in cells.columns]
    values = cells.select(_value(p).alias(p.name) for p in known)
    problems = sorted(
        problem for p in known for problem in _problems(p, cells[p.name], values[p.name])
    )
    if problems:
        raise OutsideSchemaError(source, problems)
    return Training(
        schema=schema,
        target=target,
        records=tuple(_record(row, known) for row in values.to_dicts()),
        outcome=_outcome(cells[target], positive, source).to_numpy(),
    )


def write_table(learners: pl.DataFrame, path: Path) -> str:
    """Write learners, whole or not at all, and say what was written in one line."""
    partial = path.with_name(f".{path.name}.partial")
    learners.write_csv(partial)
    partial.replace(path)
    share = learners["churned"].sum() / learners.height
    return f"{path}: {learners.height} learners, {share:.1%} churned"


def _value(p: Property) -> pl.Expr:
    """Turn text into what the schema calls it, and what does not fit into null."""
    text = pl.col(p.name)
    if p.kind == "string":
        return pl.when(text.is_in(p.members)).then(text)
    if p.kind == "boolean":
        return (
            text.str.strip_chars()
            .str.to_lowercase()
            .replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean)
        )
    number = text.str.strip_chars().cast(pl.Float64, strict=False)
    fits = number.is_finite()
    if p.minimum is not None:
        fits &= number >= float(p.minimum)
    if p.maximum is not None:
        fits &= number <= float(p.maximum)
    if p.kind == "number":
        return pl.when(fits).then(number)
    return pl.when(fits & (number == number.floor())).then(number).cast(pl.Int64, strict=False)


def _record(row: dict[str, Any], known: Sequence[Property]) -> dict[str, Any]:
    """Leave out what is missing and may not be null."""
    return {p.name: row[p.name] for p in known if p.nullable or row[p.name] is not None}


def _problems(p: Property, text: pl.Series, value: pl.Series) -> Iterator[tuple[int, str, str]]:
    bad = value.is_null() & text.is_not_null()
    if p.required and not p.nullable:
        bad |= text.is_null()
    for index in bad.arg_true():
        yield index + 1, p.name, "missing" if text[index] is None else repr(text[index])


def _outcome(text: pl.Series, positive: str | None, source: str) -> pl.Series:
    if text.null_count():
        row = text.is_null().arg_true()[0] + 1
        raise OutsideSchemaError(source, [(row, text.name, "missing")])
    found = sorted(text.unique().to_list())
    if positive is not None:
        if positive not in found:
            raise DataError(
                f"{source}: expected {positive!r} in column {text.name}, "
                f"got {', '.join(map(repr, found[:10]))}"
            )
        outcome = text == positive
    else:
        lowered = text.str.to_lowercase()
        if not lowered.is_in(list(_TRUTH)).all():
            raise DataError(
                f"{source}: expected true or false in column {text.name}, "
                f"got {', '.join(map(repr, found[:10]))}; name the outcome to forecast: --positive"
            )
        outcome = lowered.replace_strict(_TRUTH, return_dtype=pl.Boolean)
    if outcome.all() or not outcome.any():
        raise DataError(
            f"{source}: expected two outcomes in column {text.name}, got {found[0]!r} only"
        )
    return outcome
