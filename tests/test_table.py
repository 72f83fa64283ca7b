"""CSV files: whose rows become records, and what is wrong with the others, cell by cell."""

from pathlib import Path

import polars as pl
import pytest

from conftest import schema_of
from repo_ml.data.table import read_table, write_table
from repo_ml.errors import DataError, OutsideSchemaError
from repo_ml.schema import InputSchema

CUSTOMERS = schema_of(
    {
        "Contract": {"type": "string", "enum": ["Month-to-month", "One year", "Two year"]},
        "tenure": {"type": "integer", "minimum": 0, "maximum": 100},
        "MonthlyCharges": {"type": ["number", "null"], "minimum": 0},
        "Paperless": {"type": "boolean"},
        "Partner": {"type": ["boolean", "null"]},
        "Dependents": {"type": "integer"},
    },
    required=("Contract", "tenure", "MonthlyCharges"),
)
_HEADER = "customerID,Contract,tenure,MonthlyCharges,Paperless,Partner,Churn\n"
_GOOD = "7590-A,One year,34,56.95,Yes,no,No\n5575-B,Month-to-month,2,,false,,Yes\n"


def _read(text: str | bytes, schema: InputSchema = CUSTOMERS, positive: str | None = None):  # type: ignore[no-untyped-def]  # noqa: ANN202  # as read_table
    path = Path("customers.csv")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_table(path, schema, "Churn", positive)


def test_strings_numbers_booleans_and_missing_values_become_records() -> None:
    training = _read(_HEADER + _GOOD)

    assert training.records == (
        {
            "Contract": "One year",
            "tenure": 34,
            "MonthlyCharges": 56.95,
            "Paperless": True,
            "Partner": False,
        },
        {
            "Contract": "Month-to-month",
            "tenure": 2,
            "MonthlyCharges": None,
            "Paperless": False,
            "Partner": None,
        },
    )
    assert training.outcome.tolist() == [False, True]


def test_missing_value_that_may_not_be_null_is_left_out() -> None:
    training = _read(_HEADER + _GOOD.replace("false", ""))

    assert "Paperless" not in training.records[1]
    assert training.records[1]["Partner"] is None


def test_optional_column_may_be_absent() -> None:
    training = _read("Contract,tenure,MonthlyCharges,Churn\nOne year,1,2,1\nTwo year,1,2,0\n")

    assert training.records[0] == {"Contract": "One year", "tenure": 1, "MonthlyCharges": 2.0}


@pytest.mark.parametrize(
    "text",
    [
        (_HEADER + _GOOD).replace("\n", "\r\n"),
        "\ufeff" + _HEADER + _GOOD,
        (_HEADER + _GOOD).replace(",34,", ", 34.0 ,").replace("Yes,no", '" YES ",NO'),
        (_HEADER + _GOOD).replace(",34,", ",3.4e1,").removesuffix("\n"),
    ],
)
def test_other_ways_of_writing_the_same_are_read_alike(text: str) -> None:
    training = _read(text)

    assert training.records == _read(_HEADER + _GOOD).records


@pytest.mark.parametrize(
    ("no", "yes"), [("false", "true"), ("0", "1"), ("No", "Yes"), ("FALSE", "True")]
)
def test_outcome_may_be_written_in_several_ways(no: str, yes: str) -> None:
    rows = f"a,One year,1,2,,,{no}\nb,One year,1,2,,,{yes}\n"

    training = _read(_HEADER + rows)

    assert training.outcome.tolist() == [False, True]


def test_positive_names_the_outcome_of_any_words() -> None:
    rows = "a,One year,1,2,,,stays\nb,One year,1,2,,,leaves\nc,One year,1,2,,,paused\n"

    training = _read(_HEADER + rows, positive="leaves")

    assert training.outcome.tolist() == [False, True, False]


def test_missing_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"expected the columns Contract, Churn, got tenure, Mon"):
        _read("tenure,MonthlyCharges\n1,2\n")


@pytest.mark.parametrize("text", ["", "\n"])
def test_empty_file_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="got an empty file"):
        _read(text)


def test_header_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="expected rows below the header, got none"):
        _read(_HEADER)


@pytest.mark.parametrize(
    "text",
    [
        (_HEADER + _GOOD).encode() + b"x,\xff,1,2,,,No\n",
        _HEADER + "x,One year,1,2,,,No,one cell too many\n",
        _HEADER + '"x,One year,1,2,,,No\n',
    ],
)
def test_what_is_no_csv_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError, match=r"customers.csv: expected CSV, got") as refused:
        _read(text)

    assert "\n" not in str(refused.value)


def test_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(DataError, match="expected one column tenure, got several"):
        _read("Contract,tenure,tenure,MonthlyCharges,Churn\nOne year,1,2,3,No\n")


def test_outcome_that_is_an_input_is_refused() -> None:
    schema = schema_of({"Churn": {"type": "boolean"}})

    with pytest.raises(DataError, match="expected an outcome that is no input, got column Churn"):
        _read("Churn\n1\n0\n", schema)


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("Contract", "Three year", "'Three year'"),
        ("Contract", "one year", "'one year'"),
        ("Contract", "", "missing"),
        ("tenure", "101", "'101'"),
        ("tenure", "-1", "'-1'"),
        ("tenure", "1.5", "'1.5'"),
        ("tenure", "many", "'many'"),
        ("tenure", "1e400", "'1e400'"),
        ("MonthlyCharges", "-0.01", "'-0.01'"),
        ("MonthlyCharges", "nan", "'nan'"),
        ("MonthlyCharges", "inf", "'inf'"),
        ("MonthlyCharges", '"1,5"', "'1,5'"),
        ("Paperless", "2", "'2'"),
        ("Partner", "maybe", "'maybe'"),
        ("Dependents", "1e30", "'1e30'"),
    ],
)
def test_value_outside_the_schema_is_told_by_row_column_and_value(
    column: str, cell: str, told: str
) -> None:
    good = {"Contract": "One year", "tenure": "1", "MonthlyCharges": "2"}
    names = [*dict.fromkeys([*good, column]), "Churn"]
    row = ",".join(({**good, column: cell, "Churn": "0"})[name] for name in names)
    first = ",".join(({**good, "Churn": "1"}).get(name, "") for name in names)

    with pytest.raises(OutsideSchemaError) as refused:
        _read(f"{','.join(names)}\n{first}\n{row}\n")

    assert str(refused.value) == (
        f"customers.csv: 1 values outside the schema: row 2, column {column}: {told}"
    )


def test_first_ten_values_are_told_and_how_many_more() -> None:
    rows = "".join(f"x,One year,{-n},2,,,No\n" for n in range(1, 14))

    with pytest.raises(OutsideSchemaError) as refused:
        _read(_HEADER + rows)

    assert "13 values outside the schema: row 1, column tenure: '-1'; row 2," in str(refused.value)
    assert str(refused.value).endswith("row 10, column tenure: '-10'; and 3 more")
    assert len(refused.value.problems) == 13


def test_missing_outcome_is_told_by_its_row() -> None:
    with pytest.raises(OutsideSchemaError, match="row 3, column Churn: missing"):
        _read(_HEADER + _GOOD + "x,One year,1,2,,,\n")


def test_one_outcome_only_is_refused() -> None:
    with pytest.raises(DataError, match="expected two outcomes in column Churn, got 'No' only"):
        _read(_HEADER + _GOOD.replace("Yes\n", "No\n"))


def test_outcome_of_other_words_asks_for_the_positive_one() -> None:
    with pytest.raises(DataError, match=r"got 'No', 'left'; .* --positive"):
        _read(_HEADER + _GOOD.replace("Yes\n", "left\n"))


def test_positive_outcome_that_never_comes_is_refused() -> None:
    with pytest.raises(DataError, match="expected 'left' in column Churn, got 'No', 'Yes'"):
        _read(_HEADER + _GOOD, positive="left")


def test_bound_beyond_every_integer_of_a_machine_is_held() -> None:
    schema = schema_of({"a": {"type": "integer", "minimum": -(10**300), "maximum": 10**300}})

    training = _read("a,Churn\n5,1\n-5,0\n", schema)

    assert [record["a"] for record in training.records] == [5, -5]


def test_write_table_says_what_it_wrote_and_leaves_nothing_else() -> None:
    path = Path("learners.csv")

    line = write_table(pl.DataFrame({"a": [1, 2, 3, 4], "churned": [1, 0, 0, 0]}), path)

    assert line == "learners.csv: 4 learners, 25.0% churned"
    assert [found.name for found in Path().iterdir()] == ["learners.csv"]
    assert path.read_text() == "a,churned\n1,1\n2,0\n3,0\n4,0\n"
