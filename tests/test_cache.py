"""Tests of `cache`: whole at any moment, and damage is noticed."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import CHANNEL
from repo_api.cache import Cache
from repo_api.errors import IntegrityError, RegistryError, SetupError
from repo_api.hashing import digest_of
from repo_api.release import Descriptor, ServedRelease

CONTENT = b"what was released"
DIGEST = digest_of(CONTENT)
MANIFEST = "sha256:" + "a" * 64
LAYER = Descriptor("application/octet-stream", DIGEST, len(CONTENT), "model.pkl")
SERVED = ServedRelease(MANIFEST, Version("2.1.0"))


def add(cache: Cache, content: bytes = CONTENT) -> Path:
    with cache.add(digest_of(content)) as path:
        assert path
        path.write_bytes(content)
    found = cache.find(digest_of(content))
    assert found
    return found


def test_find_returns_what_was_added(cache: Cache) -> None:
    path = add(cache)

    assert path.read_bytes() == CONTENT


def test_find_knows_nothing_in_a_new_cache(cache: Cache) -> None:
    assert cache.find(DIGEST) is None


def test_find_takes_a_damaged_blob_for_absent(cache: Cache) -> None:
    add(cache).write_bytes(b"something else")

    assert cache.find(DIGEST) is None


def test_add_keeps_nothing_if_the_block_fails(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError), cache.add(DIGEST) as path:
        _fail(path, IntegrityError("model.pkl", "17 bytes", "7 bytes"))

    assert cache.find(DIGEST) is None
    assert not list((tmp_path / "cache" / "partial").iterdir())


def _fail(path: Path | None, error: Exception) -> None:
    assert path
    path.write_bytes(b"what")
    raise error


def test_add_offers_what_a_transfer_that_broke_off_has_left(cache: Cache) -> None:
    with pytest.raises(RegistryError), cache.add(DIGEST) as path:
        _fail(path, RegistryError("the transfer broke off"))

    assert cache.find(DIGEST) is None
    with cache.add(DIGEST) as path:
        assert path
        assert path.read_bytes() == b"what"


def test_add_leaves_nothing_where_nothing_came(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(RegistryError), cache.add(DIGEST):
        raise RegistryError("the registry does not answer")

    assert not list((tmp_path / "cache" / "partial").iterdir())


def test_those_who_add_the_same_take_turns(cache: Cache) -> None:
    offered: list[Path | None] = []

    def add_slowly(_: int) -> None:
        with cache.add(DIGEST) as path:
            offered.append(path)
            if path:
                time.sleep(0.1)
                path.write_bytes(CONTENT)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_slowly, range(4)))

    assert [path is None for path in offered] == [False, True, True, True]
    assert cache.find(DIGEST)


def test_a_wait_for_another_can_be_ended(cache: Cache) -> None:
    class EnoughError(Exception):
        """The user does not want to wait."""

    def enough() -> None:
        raise EnoughError

    with (
        cache.add(DIGEST),
        pytest.raises(EnoughError),
        cache.add(DIGEST, on_wait=enough),
    ):
        pass


def test_a_long_wait_for_another_is_said(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    def add_slowly() -> None:
        with cache.add(DIGEST) as path:
            assert path
            holding.set()
            time.sleep(1.5)
            path.write_bytes(CONTENT)

    holding = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(add_slowly)
        holding.wait()
        with cache.add(DIGEST) as path:
            assert path is None
        slow.result()

    assert "another process writes to" in caplog.text


def test_who_has_waited_for_one_that_failed_begins_anew(cache: Cache, tmp_path: Path) -> None:
    failing = threading.Event()

    def add_wrongly() -> None:
        with pytest.raises(IntegrityError), cache.add(DIGEST) as path:
            fail_slowly(path)

    def fail_slowly(path: Path | None) -> None:
        failing.set()
        time.sleep(0.1)
        _fail(path, IntegrityError("model.pkl", "17 bytes", "4 bytes"))

    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(add_wrongly)
        failing.wait()
        with cache.add(DIGEST) as path:
            assert path
            assert path.read_bytes() == b""
            path.write_bytes(CONTENT)
        failed.result()

    assert cache.find(DIGEST)
    assert not list((tmp_path / "cache" / "partial").iterdir())


def test_add_mends_a_damaged_blob(cache: Cache) -> None:
    add(cache).write_bytes(b"something else")

    assert add(cache).read_bytes() == CONTENT


def test_assemble_names_the_files_by_their_titles(cache: Cache) -> None:
    add(cache)

    folder = cache.assemble(MANIFEST, [LAYER])

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.pkl": CONTENT}


def test_assemble_twice_changes_nothing(cache: Cache) -> None:
    add(cache)
    before = (cache.assemble(MANIFEST, [LAYER]) / "model.pkl").stat().st_ino

    after = (cache.assemble(MANIFEST, [LAYER]) / "model.pkl").stat().st_ino

    assert after == before


def test_assemble_puts_right_what_was_tampered_with(cache: Cache) -> None:
    add(cache)
    folder = cache.assemble(MANIFEST, [LAYER])
    (folder / "model.pkl").unlink()
    (folder / "model.pkl").write_bytes(b"something else")
    (folder / "stranger.py").touch()

    cache.assemble(MANIFEST, [LAYER])

    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"model.pkl": CONTENT}


def test_sweep_deletes_what_a_killed_process_left(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cache)
    left = tmp_path / "cache" / "partial" / "left"
    left.touch()
    in_two_days = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: in_two_days)

    cache.sweep()

    assert not left.exists()
    assert cache.find(DIGEST)


def test_sweep_spares_what_another_process_is_writing(cache: Cache) -> None:
    with cache.add(DIGEST) as path:
        assert path
        cache.sweep()
        path.write_bytes(CONTENT)

    assert cache.find(DIGEST)


def test_sweep_spares_a_new_link_to_an_old_file(cache: Cache) -> None:
    with cache.add(DIGEST) as path:
        assert path
        path.write_bytes(CONTENT)
        os.utime(path, (0, 0))
        cache.sweep()

    assert cache.find(DIGEST)


def test_sweep_spares_what_is_old_and_held(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    in_two_days = time.time() + 2 * 86400
    monkeypatch.setattr(time, "time", lambda: in_two_days)

    with cache.add(DIGEST) as path:
        assert path
        cache.sweep()
        path.write_bytes(CONTENT)

    assert cache.find(DIGEST)


def test_sweep_needs_no_cache(cache: Cache) -> None:
    cache.sweep()


def test_last_served_remembers_by_channel(cache: Cache) -> None:
    cache.remember(CHANNEL, SERVED)

    assert cache.last_served(CHANNEL) == SERVED


def test_last_served_knows_nothing_of_another_channel(cache: Cache) -> None:
    cache.remember(CHANNEL, SERVED)

    other = type(CHANNEL)(CHANNEL.registry, CHANNEL.repository, "v1")
    assert cache.last_served(other) is None


def test_a_memory_that_cannot_be_read_allows_nothing(cache: Cache, tmp_path: Path) -> None:
    cache.remember(CHANNEL, SERVED)
    (memory,) = (tmp_path / "cache" / "served").iterdir()
    memory.write_text("{}", encoding="utf-8")

    with pytest.raises(SetupError, match="delete it if any release may be served"):
        cache.last_served(CHANNEL)


def test_a_cache_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()

    with (
        pytest.raises(SetupError, match=r"the cache cannot be used \(.*\); .*EDUSTREAM_CACHE"),
        Cache(tmp_path / "cache").add(DIGEST),
    ):
        pass


def test_a_full_disk_is_one_clear_error(cache: Cache) -> None:
    with (
        pytest.raises(SetupError, match=r"No space left on device"),
        cache.add(DIGEST),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(CONTENT)
