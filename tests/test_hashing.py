"""A file that is hashed while it is written is on disk as it was hashed."""

import hashlib
from pathlib import Path

from repo_api.hashing import CheckedFile
from repo_api.release import Descriptor

CONTENT = bytes(100_000)
LAYER = Descriptor("", f"sha256:{hashlib.sha256(CONTENT).hexdigest()}", len(CONTENT), "model.pkl")


def test_what_was_checked_is_on_disk_already(tmp_path: Path) -> None:
    with CheckedFile(tmp_path / "layer", LAYER) as checked:
        checked.write(CONTENT[:100])
        checked.write(CONTENT[100:])
        checked.check()

        assert (tmp_path / "layer").stat().st_size == len(CONTENT)


def test_what_the_file_holds_already_is_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "layer").write_bytes(CONTENT[:100])

    with CheckedFile(tmp_path / "layer", LAYER) as checked:
        assert checked.size == 100
        checked.write(CONTENT[100:])
        checked.check()
