"""registry-config/registry.py, with the program and with the container."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import ROOT, copy_registry_config, free_port, require, run_registry

KEYS = ("repo-ml/.keys/signing.pem", "repo-api/.keys/signing.pem")
HANDED_OUT = (
    *KEYS,
    "repo-ml/.keys/repo-api.pub",
    "repo-api/.keys/repo-ml.pub",
    "repo-ml/.env",
    "repo-api/.env",
)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout of its own, with two repositories in which nothing is but their names."""
    copy_registry_config(tmp_path)
    for name in ("repo-ml", "repo-api"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").touch()
    yield tmp_path
    for data in tmp_path.glob("registry-config/.data/*"):
        run_registry(tmp_path, int(data.name), "down")


@pytest.fixture
def only_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide every container engine: the PATH holds the registry program alone."""
    program = require("registry")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "registry").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture(params=["program", "container"])
def way(request: pytest.FixtureRequest) -> str:
    """Let a test run once for each way in which a registry can run."""
    if request.param == "program":
        request.getfixturevalue("only_the_program")
    else:
        require("container")
    return str(request.param)


def publish(port: int, repository: str, tag: str) -> requests.Response:
    """Put a manifest of an empty config into a registry."""
    url = f"http://127.0.0.1:{port}/v2/{repository}"
    blob = b"{}"
    digest = "sha256:" + hashlib.sha256(blob).hexdigest()
    upload = requests.post(f"{url}/blobs/uploads/", timeout=10)
    requests.put(upload.headers["Location"], params={"digest": digest}, data=blob, timeout=10)
    kind = "application/vnd.oci.image.manifest.v1+json"
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest, "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    return requests.put(
        f"{url}/manifests/{tag}",
        data=json.dumps(manifest),
        headers={"Content-Type": kind},
        timeout=10,
    )


def test_up_status_reset_and_down(checkout: Path, port: int, way: str) -> None:
    up = run_registry(checkout, port, "up")
    published = publish(port, "edustream/churn-model", "v2.0.0")
    status = run_registry(checkout, port, "status")
    reset = run_registry(checkout, port, "reset")
    emptied = run_registry(checkout, port, "status")
    down = run_registry(checkout, port, "down")

    assert up.returncode == 0, up.stderr
    assert f"{way} " in up.stdout
    assert published.ok, published.text
    assert "edustream/churn-model  v2.0.0" in status.stdout
    assert reset.returncode == 0, reset.stderr
    assert "nothing is published yet" in emptied.stdout
    assert "stopped" in down.stdout
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_was_published_survives_down_and_up(checkout: Path, port: int, way: str) -> None:
    run_registry(checkout, port, "up")
    publish(port, "edustream/churn-model", "v2.0.0")

    run_registry(checkout, port, "down")
    run_registry(checkout, port, "up")

    assert "v2.0.0" in run_registry(checkout, port, "status").stdout, way


def test_a_release_can_be_deleted(checkout: Path, port: int, way: str) -> None:
    run_registry(checkout, port, "up")
    digest = publish(port, "edustream/churn-model", "v2.0.0").headers["Docker-Content-Digest"]

    url = f"http://127.0.0.1:{port}/v2/edustream/churn-model/manifests/{digest}"
    deleted = requests.delete(url, timeout=10)

    assert deleted.status_code == requests.codes.accepted, way
    assert "v2.0.0" not in run_registry(checkout, port, "status").stdout


def test_up_twice_is_up_once(checkout: Path, port: int, way: str) -> None:
    first = run_registry(checkout, port, "up").stdout.splitlines()
    second = run_registry(checkout, port, "up")

    assert second.returncode == 0, second.stderr
    answer = f"answers at localhost:{port}"
    assert [line for line in first if answer in line] == second.stdout.splitlines(), way


def test_it_listens_on_loopback_only(checkout: Path, port: int, way: str) -> None:
    run_registry(checkout, port, "up")

    listening = Path("/proc/net/tcp").read_text(encoding="ascii").split("\n")[1:-1]
    addresses = {line.split()[1] for line in listening if line.split()[3] == "0A"}

    mine = [address for address in addresses if address.endswith(f":{port:04X}")]
    assert mine == [f"0100007F:{port:04X}"], way


def test_two_ports_are_two_registries(checkout: Path, port: int, way: str) -> None:
    other = free_port()
    run_registry(checkout, port, "up")
    assert run_registry(checkout, other, "up").returncode == 0

    publish(port, "edustream/churn-model", "v2.0.0")
    run_registry(checkout, port, "down")

    assert "nothing is published yet" in run_registry(checkout, other, "status").stdout, way


def test_up_refuses_a_port_that_is_taken(checkout: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        up = run_registry(checkout, port, "up")
        down = run_registry(checkout, port, "down")

    assert up.returncode == 1
    assert f"port {port} is taken by something that was not started here" in up.stderr
    assert "left alone" in down.stdout


@pytest.mark.usefixtures("only_the_program")
def test_a_pid_file_left_behind_is_not_taken_for_a_registry(checkout: Path, port: int) -> None:
    folder = checkout / "registry-config" / ".data" / str(port)
    folder.mkdir(parents=True)
    (folder / "registry.pid").write_text(str(os.getpid()), encoding="ascii")

    assert "nothing runs" in run_registry(checkout, port, "down").stdout


def test_an_image_that_cannot_be_had_is_built_from_the_program(
    checkout: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("container")
    require("registry")
    monkeypatch.setenv("REGISTRY_IMAGE", "127.0.0.1:1/nowhere/registry:3")

    built = run_registry(checkout, port, "build-image")
    up = run_registry(checkout, port, "up")

    assert built.returncode == 0, built.stderr
    assert "127.0.0.1:1/nowhere/registry:3 cannot be pulled" in up.stdout
    assert "(edustream-registry) answers" in up.stdout


def test_without_any_way_the_message_names_three(
    checkout: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout))

    up = run_registry(checkout, port, "up")

    assert up.returncode == 1
    assert up.stderr.count("\n  - ") == len(("an engine", "a program", "an address"))


@pytest.mark.parametrize("address", ["registry.example.org", "example.org:5000", "localhost:0"])
def test_an_address_elsewhere_is_not_ours_to_run(checkout: Path, address: str) -> None:
    up = run_registry(checkout, address, "up")

    assert up.returncode == 1
    assert f"EDUSTREAM_REGISTRY is {address}: expected localhost:PORT" in up.stderr


@pytest.mark.usefixtures("only_the_program")
def test_keys_are_made_once_and_for_their_owner_only(checkout: Path, port: int) -> None:
    run_registry(checkout, port, "up")
    made = {name: (checkout / name).read_bytes() for name in HANDED_OUT}

    run_registry(checkout, port, "up")

    assert made == {name: (checkout / name).read_bytes() for name in HANDED_OUT}
    assert made[KEYS[0]] != made[KEYS[1]]
    for name in HANDED_OUT:
        assert stat.S_IMODE((checkout / name).stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    settings = f"EDUSTREAM_SIGNING_KEY={checkout}/repo-ml/.keys/signing.pem\n"
    assert made["repo-ml/.env"].decode().startswith(settings)


@pytest.mark.usefixtures("only_the_program")
def test_a_repository_that_is_not_there_gets_its_keys_later(checkout: Path, port: int) -> None:
    (checkout / "repo-api" / "pyproject.toml").unlink()
    first = run_registry(checkout, port, "up")
    (checkout / "repo-api" / "pyproject.toml").touch()

    second = run_registry(checkout, port, "up")

    assert "repo-api/ is not there, so it gets no keys" in first.stdout
    assert "repo-api/.keys/repo-ml.pub" in second.stdout
    assert all((checkout / name).exists() for name in HANDED_OUT)


def test_a_stage_leaves_alone_what_a_registry_that_is_down_has_kept(tmp_path: Path) -> None:
    copy_registry_config(tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    kept = tmp_path / "registry-config" / ".data" / "5000" / "storage" / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    program = "from stage import build_stage\nwith build_stage() as stage: print(stage.registry)"

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "tools",
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() != "localhost:5000"
    assert kept.exists()
