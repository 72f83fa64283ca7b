"""Two repositories that share nothing but a registry and a contract: what keeps them apart."""

from __future__ import annotations

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT

# The other's repository may be named where the contract is found or described, by tests that
# play the other side, and in what people read; the other's package nowhere.
CONTRACT_MODULES = {
    "repo-ml": "src/repo_ml/consumers.py",
    "repo-api": "src/repo_api/contract.py",
}
READ_BY_PEOPLE = ("*.md", "tests/*")
TWO_SIDES = pytest.mark.parametrize(
    ("own", "other"), [("repo-ml", "repo-api"), ("repo-api", "repo-ml")]
)


def package_of(repository: str) -> str:
    """Return the name that a repository's code is imported by."""
    return repository.replace("-", "_")


def grep(repository: str, pattern: str) -> list[tuple[str, str]]:
    """Find a pattern in what a repository tracks: file and line."""
    done = subprocess.run(
        ["git", "grep", "--extended-regexp", "-I", "-e", pattern],
        cwd=ROOT / repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    found = [line.partition(":") for line in done.stdout.splitlines()]
    return [(file, line) for file, _, line in found]


@TWO_SIDES
def test_no_environment_can_import_the_other_package(
    programs: dict[str, Path], own: str, other: str
) -> None:
    python = programs[own].parent / "python"
    imports = [
        subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True, check=False)
        for name in (package_of(own), package_of(other))
    ]

    assert imports[0].returncode == 0, imports[0].stderr
    assert imports[1].returncode == 1
    assert b"ModuleNotFoundError" in imports[1].stderr


@TWO_SIDES
def test_no_file_names_the_other_package_but_to_ban_it(own: str, other: str) -> None:
    package = package_of(other)

    found = grep(own, rf"\b{package}\b")

    ban = re.compile(rf'"?{package}"?\.msg = ')
    assert found
    assert [hit for hit in found if hit[0] != "pyproject.toml" or not ban.match(hit[1])] == []


@TWO_SIDES
def test_no_code_names_the_other_repository_but_for_the_contract(own: str, other: str) -> None:
    files = {file for file, _ in grep(own, rf"\b{other}\b")}

    code = {file for file in files if not any(fnmatch(file, each) for each in READ_BY_PEOPLE)}
    assert code == {CONTRACT_MODULES[own]}


@TWO_SIDES
@pytest.mark.parametrize("statement", ["import {}", "from {} import release", "import {}.errors"])
def test_ruff_finds_an_import_of_the_other_package(own: str, other: str, statement: str) -> None:
    package = package_of(other)
    file = f"src/{package_of(own)}/trespass.py"

    done = subprocess.run(
        [
            Path(sys.executable).parent / "ruff",
            "check",
            "--no-cache",
            "--stdin-filename",
            file,
            "-",
        ],
        cwd=ROOT / own,
        input=statement.format(package) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1, done.stderr
    assert f"TID251 `{package}" in done.stdout
