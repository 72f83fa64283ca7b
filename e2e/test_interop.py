"""Other people's tools read a release, copy it, and see what was verified of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import INDEX_TYPE, MODEL, READY_SECONDS, ROOT, LocalRegistry, Team, free_port, require

ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
VERIFICATION_TYPE = "application/vnd.edustream.verification.v1+json"


def run(*command: str | Path, folder: Path | None = None) -> str:
    """Run somebody else's program, which must succeed, and return what it prints."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def oras_pull(reference: str, into: Path) -> Path:
    """Pull a release by the oras command line."""
    run(require("oras"), "pull", "--plain-http", "--output", into, reference)
    return into


@pytest.fixture
def zot(tmp_path: Path) -> Iterator[str]:
    """Run a registry that has the referrers API, with what is published in it open to all."""
    program, port = require("zot"), free_port()
    configuration = tmp_path / "zot.json"
    content = {
        "distSpecVersion": "1.1.1",
        "storage": {"rootDirectory": str(tmp_path / "zot")},
        "http": {"address": "127.0.0.1", "port": str(port)},
        "log": {"level": "error", "output": str(tmp_path / "zot.log")},
    }
    configuration.write_text(json.dumps(content), encoding="utf-8")
    process = subprocess.Popen([program, "serve", configuration])
    try:
        until = time.monotonic() + READY_SECONDS
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/v2/", timeout=READY_SECONDS)
                break
            except requests.ConnectionError:
                assert time.monotonic() < until, "zot does not answer"
                assert process.poll() is None, "zot does not start"
                time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def test_oras_pulls_every_file_of_a_release(
    ml: Team, registry: LocalRegistry, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)

    pulled = oras_pull(f"{registry.address}/{MODEL}:v2", tmp_path / "pulled")

    content = {path.name: path.read_bytes() for path in pulled.iterdir()}
    assert "churn_model_v2.pkl" in content
    assert content == {path.name: path.read_bytes() for path in release.iterdir()}


def test_the_manifest_is_a_modelpack(ml: Team, registry: LocalRegistry, release: Path) -> None:
    ml.must("publish", release)

    reference = f"{registry.address}/{MODEL}:v2.0.0"
    fetch = [require("oras"), "manifest"]
    manifest = json.loads(run(*fetch, "fetch", "--plain-http", reference))
    config = json.loads(run(*fetch, "fetch-config", "--plain-http", reference))

    assert manifest["artifactType"] == ARTIFACT_TYPE
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    assert set(config) == {"descriptor", "config", "modelfs"}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
    for layer in manifest["layers"]:
        names = layer["annotations"]
        assert names["org.cncf.model.filepath"] == names["org.opencontainers.image.title"]


def test_a_release_that_oras_pushed_with_a_changed_file_is_refused(
    ml: Team, api: Team, registry: LocalRegistry, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)
    reference = f"{registry.address}/{MODEL}:v2"
    pulled = oras_pull(reference, tmp_path / "pulled")
    files = sorted(path.name for path in pulled.iterdir())
    push = [require("oras"), "push", "--plain-http", "--artifact-type", ARTIFACT_TYPE, reference]

    run(*push, *files, folder=pulled)
    api.must("verify")  # by whom it was pushed does not matter
    with (pulled / "README.md").open("a", encoding="utf-8") as card:
        card.write("It never errs.\n")
    run(*push, *files, folder=pulled)
    line = api.refused("verify")

    assert "got other bytes in README.md" in line


@pytest.mark.parametrize(("key", "accepted"), [("repo-ml", True), ("stranger", False)])
def test_model_signing_verifies_what_oras_pulled(
    ml: Team,
    registry: LocalRegistry,
    keys: Path,
    release: Path,
    tmp_path: Path,
    key: str,
    accepted: bool,  # noqa: FBT001  a parameter of the test, not of a caller's choice
) -> None:
    ml.must("publish", release)
    pulled = oras_pull(f"{registry.address}/{MODEL}:v2", tmp_path / "pulled")

    public = keys / key / "signing.pub"
    verify = [str(Path(sys.executable).parent / "model_signing"), "verify", "key", str(pulled)]
    options = ["--signature", str(pulled / "model.sig"), "--public_key", str(public)]
    done = subprocess.run([*verify, *options], capture_output=True, check=False)

    assert (done.returncode == 0) is accepted, done.stderr


@pytest.mark.parametrize("tool", ["crane", "oras", "skopeo"])
def test_a_copy_in_another_registry_is_the_same_release(
    ml: Team,
    api: Team,
    registry: LocalRegistry,
    other_registry: LocalRegistry,
    release: Path,
    tool: str,
) -> None:
    program = require(tool)
    ml.must("publish", release)
    source, target = (f"{each.address}/{MODEL}:v2" for each in (registry, other_registry))

    if tool == "crane":
        run(program, "copy", "--insecure", source, target)
    elif tool == "oras":
        run(program, "copy", "--from-plain-http", "--to-plain-http", source, target)
    else:
        plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
        images = [f"docker://{source}", f"docker://{target}"]
        run(program, "--insecure-policy", "copy", *plain, *images)

    digest = registry.digest("v2")
    assert other_registry.digest("v2") == digest
    assert digest in api.must("verify", EDUSTREAM_REGISTRY=other_registry.address)


def assert_discovered(address: str, contract: str, folder: Path) -> None:
    """Check that oras finds one verification of the release, and brings it."""
    oras = require("oras")
    reference = f"{address}/{MODEL}:v2"
    found = json.loads(run(oras, "discover", "--plain-http", "--format", "json", reference))
    (referrer,) = found["referrers"]
    assert referrer["artifactType"] == VERIFICATION_TYPE
    pulled = oras_pull(f"{address}/{MODEL}@{referrer['digest']}", folder)
    result = json.loads((pulled / "verification.json").read_bytes())
    assert (result["consumer"], result["consumer_version"]) == ("repo-api", contract)
    assert (result["model_version"], result["verdict"]) == ("2.0.0", "fits")


def test_oras_discovers_verifications_where_a_tag_lists_them(
    ml: Team, registry: LocalRegistry, contract: str, release: Path, tmp_path: Path
) -> None:
    ml.must("publish", release)

    digest = registry.digest("v2")
    assert registry.ask("GET", f"referrers/{digest}").status_code == requests.codes.not_found
    tag = digest.replace(":", "-")
    assert registry.ask("HEAD", f"manifests/{tag}", media_type=INDEX_TYPE).ok
    assert_discovered(registry.address, contract, tmp_path / "pulled")


def test_oras_discovers_verifications_where_the_referrers_api_lists_them(
    ml: Team, api: Team, zot: str, contract: str, release: Path, tmp_path: Path
) -> None:
    folder = ROOT / "contracts" / "repo-api" / contract
    api.must("contract", "publish", folder, EDUSTREAM_REGISTRY=zot)
    ml.must("publish", release, EDUSTREAM_REGISTRY=zot)

    tags = requests.get(f"http://{zot}/v2/{MODEL}/tags/list", timeout=READY_SECONDS).json()["tags"]
    assert sorted(tags) == ["v2", "v2.0.0"]
    assert_discovered(zot, contract, tmp_path / "pulled")
