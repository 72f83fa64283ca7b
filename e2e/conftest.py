"""What the tests across repositories share: both programs, a real registry, real git.

Also what REQUIRE demands of the machine.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parent.parent
MODEL = "edustream/churn-model"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
READY_SECONDS = 60
STOPS_IN_SECONDS = 10
GITMODULES = """\
[submodule "{name}"]
	path = {name}
	url = ./
	branch = {name}
"""


def require(name: str) -> str:
    """Return what a test needs of this machine, or skip the test, with the reason.

    REQUIRE names what must be there, as in `REQUIRE=oras,container`: without it the
    test fails.

    Args:
        name: `container` for an engine that answers, `registry` for Distribution's
            program, `oulad` for the folder in EDUSTREAM_OULAD, or else the name of
            a program.
    """
    if found := find(name):
        return found
    reason = f"{name} is not on this machine"
    if name in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"{reason}, and REQUIRE names it")
    pytest.skip(reason)


def find(name: str) -> str | None:
    """Return the program behind a name of `require`."""
    if name == "container":
        engines = (engine for engine in ("docker", "podman") if shutil.which(engine))
        return next((engine for engine in engines if answers(engine)), None)
    if name == "registry":
        return shutil.which("registry") or shutil.which("docker-registry")
    if name == "oulad":
        return os.environ.get("EDUSTREAM_OULAD")
    return shutil.which(name)


def answers(engine: str) -> bool:
    """Ask whether a container engine runs."""
    return subprocess.run([engine, "info"], capture_output=True, check=False).returncode == 0


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def run_registry(
    checkout: Path, where: int | str, command: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of a checkout's own registry.py, at a port or an address."""
    address = where if isinstance(where, str) else f"localhost:{where}"
    return subprocess.run(
        [sys.executable, "registry-config/registry.py", command],
        cwd=checkout,
        env=os.environ | {"EDUSTREAM_REGISTRY": address},
        capture_output=True,
        text=True,
        check=False,
    )


def copy_registry_config(checkout: Path) -> None:
    """Copy registry-config, so that data and keys of the real checkout stay as they are."""
    ignored = shutil.ignore_patterns(".data", "__pycache__")
    shutil.copytree(ROOT / "registry-config", checkout / "registry-config", ignore=ignored)


@dataclass(frozen=True, slots=True)
class LocalRegistry:
    """A real registry, run by a copy of registry-config; a test may stop and damage it."""

    checkout: Path
    port: int

    @property
    def address(self) -> str:
        """What goes into EDUSTREAM_REGISTRY."""
        return f"localhost:{self.port}"

    @property
    def storage(self) -> Path:
        """Where Distribution keeps what was published."""
        return self.checkout / "registry-config" / ".data" / str(self.port) / "storage"

    def up(self) -> None:
        """Start it, by whatever this machine has."""
        started = run_registry(self.checkout, self.port, "up")
        if "nothing here can run a registry" in started.stderr:
            pytest.skip(started.stderr)
        assert started.returncode == 0, started.stderr

    def down(self) -> None:
        """Stop it; what was published stays."""
        run_registry(self.checkout, self.port, "down")

    def kill(self) -> None:
        """End it with no chance to put anything in order."""
        pid_file = self.storage.parent / "registry.pid"
        if pid_file.exists():
            os.kill(int(pid_file.read_text(encoding="ascii")), signal.SIGKILL)
        elif engine := find("container"):
            listed = [engine, "ps", "--quiet", "--filter", f"publish={self.port}"]
            ids = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
            subprocess.run([engine, "kill", *ids], capture_output=True, check=True)
        self.down()

    def empty(self) -> None:
        """Forget what was published, while it runs."""
        for path in self.storage.iterdir():
            shutil.rmtree(path)

    def blob(self, digest: str) -> Path:
        """Find the bytes behind a digest on the registry's own disk."""
        encoded = digest.removeprefix("sha256:")
        blobs = self.storage / "docker" / "registry" / "v2" / "blobs" / "sha256"
        return blobs / encoded[:2] / encoded / "data"

    def ask(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        media_type: str = MANIFEST_TYPE,
    ) -> requests.Response:
        """Send a request about the model's repository, past both programs."""
        headers = {"Accept": media_type, "Content-Type": media_type}
        url = f"http://{self.address}/v2/{MODEL}/{path}"
        return requests.request(method, url, data=data, headers=headers, timeout=READY_SECONDS)

    def digest(self, tag: str) -> str:
        """Return what a tag of the model stands for."""
        return self.ask("HEAD", f"manifests/{tag}").headers["Docker-Content-Digest"]

    def manifest(self, tag: str) -> dict[str, Any]:
        """Return a manifest of the model."""
        found: dict[str, Any] = self.ask("GET", f"manifests/{tag}").json()
        return found

    def layers(self, tag: str) -> dict[str, str]:
        """Return the digest of every layer of a release, by its title."""
        return {
            layer["annotations"]["org.opencontainers.image.title"]: layer["digest"]
            for layer in self.manifest(tag)["layers"]
        }

    def put_manifest(self, tag: str, manifest: Mapping[str, Any]) -> None:
        """Let a tag of the model stand for a manifest."""
        answer = self.ask("PUT", f"manifests/{tag}", data=json.dumps(manifest).encode())
        assert answer.ok, answer.text

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """List what says something of a manifest, by the API or by the tag that replaces it."""
        for path in (f"referrers/{digest}", f"manifests/{digest.replace(':', '-')}"):
            answer = self.ask("GET", path, media_type=INDEX_TYPE)
            if answer.ok:
                found: list[dict[str, Any]] = answer.json()["manifests"]
                return found
        return []


def damage(registry: LocalRegistry, digest: str, change: Callable[[bytes], bytes]) -> None:
    """Change some bytes on the registry's own disk, as a failing disk would."""
    blob = registry.blob(digest)
    blob.write_bytes(change(blob.read_bytes()))


def flip_a_bit(content: bytes) -> bytes:
    """Change one bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@contextmanager
def run_own_registry(checkout: Path, port: int) -> Iterator[LocalRegistry]:
    """Run a registry until the block ends."""
    copy_registry_config(checkout)
    own = LocalRegistry(checkout, port)
    try:
        own.up()
        yield own
    finally:
        own.down()


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """Run one registry for all tests."""
    with run_own_registry(tmp_path_factory.mktemp("registry"), free_port()) as shared:
        yield shared


@pytest.fixture
def registry(shared_registry: LocalRegistry) -> Iterator[LocalRegistry]:
    """Yield a registry that runs and in which nothing is, and leave none of it on the disk."""
    with socket.socket() as probe:
        stopped = probe.connect_ex(("127.0.0.1", shared_registry.port)) != 0
    if stopped:
        shared_registry.up()
    yield shared_registry
    shared_registry.empty()


@pytest.fixture
def other_registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    """Yield a second registry, as another site might run one."""
    with run_own_registry(tmp_path / "other-registry", free_port()) as other:
        yield other


@dataclass(frozen=True, slots=True)
class Team:
    """A team at its terminal: its program, the folder that it is in, and what it knows."""

    program: Path
    folder: Path
    environment: Mapping[str, str]

    def run(
        self, *arguments: str | Path, stdin: str = "", **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the program, with changes to the environment."""
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env={**self.environment, **changes},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def must(self, *arguments: str | Path, stdin: str = "", **changes: str) -> str:
        """Run the program, which must succeed, and return what it prints."""
        done = self.run(*arguments, stdin=stdin, **changes)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str | Path, stdin: str = "", **changes: str) -> str:
        """Run the program, which must refuse with exit 1 and one line, and return the line."""
        done = self.run(*arguments, stdin=stdin, **changes)
        assert done.returncode == 1, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{self.program.name}: error: ")
        return line


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process without what belongs to tox and to EduStream."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EDUSTREAM_", "TOX_"))}
    # Two cores and little data: threads would wait for each other longer than they work.
    return kept | {"OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000", **changes}


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """Make each repository's program as it is released, and return where they are."""
    made = {}
    for name in ("repo-ml", "repo-api"):
        done = subprocess.run(
            [sys.executable, ROOT / "toxw", "run", "-qq", "-e", "app", "--notest"],
            cwd=ROOT / name,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        made[name] = ROOT / name / ".tox" / "app" / "bin" / name
    return made


@pytest.fixture(scope="session")
def keys(programs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a key pair for each team and one for a stranger: `<owner>/signing.{pem,pub}`."""
    folder = tmp_path_factory.mktemp("keys")
    maker = Team(programs["repo-ml"], folder, environment())
    for owner in ("repo-ml", "repo-api", "stranger"):
        maker.must("keygen", owner)
    return folder


@pytest.fixture(scope="session")
def release(
    programs: dict[str, Path], keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train a small model once, and return the signed release that nobody has published yet."""
    return make_release(programs, keys, tmp_path_factory.mktemp("release"))


def make_release(programs: dict[str, Path], keys: Path, folder: Path, *options: str) -> Path:
    """Make churn-model 2.0.0 of a thousand learners in a folder, signed; `train` gets options."""
    signing = {"EDUSTREAM_SIGNING_KEY": str(keys / "repo-ml" / "signing.pem")}
    maker = Team(programs["repo-ml"], folder, environment(**signing))
    maker.must("data", "synthetic", "--learners", "1000")
    maker.must("train", "--data", "learners.csv", *options)
    maker.must("package")
    made = folder / "releases" / "churn-model-2.0.0"
    maker.must("sign", made)
    return made


def revise(release: Path, into: Path, **changes: Any) -> Path:  # noqa: ANN401  whatever JSON holds
    """Copy a release with other fields in its description; it is to be signed again."""
    shutil.copytree(release, into)
    file = into / "release.json"
    description = json.loads(file.read_bytes())
    model_file = description["model_file"]
    description |= changes
    file.write_text(json.dumps(description), encoding="utf-8")
    (into / model_file).rename(into / description["model_file"])
    return into


@pytest.fixture
def ml(programs: dict[str, Path], keys: Path, registry: LocalRegistry, tmp_path: Path) -> Team:
    """The data scientist."""
    folder = tmp_path / "repo-ml"
    folder.mkdir()
    known = environment(
        EDUSTREAM_REGISTRY=registry.address,
        EDUSTREAM_SIGNING_KEY=str(keys / "repo-ml" / "signing.pem"),
        EDUSTREAM_TRUSTED_KEY=str(keys / "repo-api" / "signing.pub"),
    )
    return Team(programs["repo-ml"], folder, known)


@pytest.fixture
def api(
    programs: dict[str, Path], keys: Path, registry: LocalRegistry, tmp_path: Path, cache: Path
) -> Team:
    """The backend developer."""
    folder = tmp_path / "repo-api"
    folder.mkdir()
    known = environment(
        EDUSTREAM_REGISTRY=registry.address,
        EDUSTREAM_SIGNING_KEY=str(keys / "repo-api" / "signing.pem"),
        EDUSTREAM_TRUSTED_KEY=str(keys / "repo-ml" / "signing.pub"),
        EDUSTREAM_CACHE=str(cache),
    )
    return Team(programs["repo-api"], folder, known)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where the backend keeps what it pulled; it is not there yet."""
    return tmp_path / "cache"


@pytest.fixture
def contract(api: Team) -> str:
    """Publish the backend's own contract, and return the version of it."""
    released = ROOT / "contracts" / "repo-api"
    folders = [folder for folder in released.iterdir() if folder.is_dir()]
    own = max(folders, key=lambda folder: [int(part) for part in folder.name.split(".")])
    api.must("contract", "publish", own)
    return own.name


@dataclass(frozen=True, slots=True)
class Service:
    """A backend that answers: where, what it said when it was ready, and its process."""

    url: str
    ready: str
    errors: Path
    pid: int

    def get(self, path: str) -> Any:  # noqa: ANN401  what JSON holds
        """Return what it answers to a GET."""
        return requests.get(self.url + path, timeout=READY_SECONDS).json()

    def predict(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return the prediction for a record."""
        answer = requests.post(f"{self.url}/predict", json=record, timeout=READY_SECONDS)
        assert answer.ok, answer.text
        prediction: dict[str, Any] = answer.json()
        return prediction


@contextmanager
def serving(api: Team, *arguments: str | Path) -> Iterator[Service]:
    """Run the backend on a free port for as long as the block lasts; it must end in order."""
    errors = api.folder / "serve.log"
    with errors.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [api.program, "serve", "--port", "0", *arguments],
            cwd=api.folder,
            env=api.environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout
        select.select([process.stdout], [], [], READY_SECONDS)
        assert process.poll() is None, errors.read_text(encoding="utf-8")
        ready = process.stdout.readline().strip()
        yield Service(ready.rpartition(" ")[2], ready, errors, process.pid)
        process.terminate()
        assert process.wait(STOPS_IN_SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def golden_examples(release: Path) -> list[tuple[dict[str, Any], float]]:
    """Return inputs, and the probability that the producer's model gives for each."""
    description = json.loads((release / "release.json").read_bytes())
    return [(each["input"], each["probability"]) for each in description["golden_examples"]]


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, subject: str) -> str:
    """Make a commit that changes something, and return its id."""
    with (folder / "content.txt").open("a", encoding="utf-8") as content:
        content.write(f"{folder.name}: {subject}\n")
    git(folder, "add", "--all", "content.txt")
    git(folder, "commit", "--quiet", "-m", subject)
    return git(folder, "rev-parse", "HEAD")


def run_pins(superproject: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the superproject's own tools/pins.py."""
    return subprocess.run(
        [sys.executable, "tools/pins.py", *arguments],
        cwd=superproject,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def superproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a superproject with two submodules, each of one commit, pinned by pins.py."""
    settings = tmp_path / "gitconfig"
    settings.write_text(
        "[user]\n\tname = Test\n\temail = test@example.org\n"
        "[init]\n\tdefaultBranch = main\n[advice]\n\tdetachedHead = false\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "origin" / "edustream"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "pins.py", folder / "tools")
    shutil.copy(ROOT / "toxw", folder)
    (folder / ".gitignore").write_text(".toxw/\n", encoding="utf-8")
    modules = "".join(GITMODULES.format(name=name) for name in ("repo-ml", "repo-api"))
    (folder / ".gitmodules").write_text(modules, encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "tools", "toxw", ".gitignore", ".gitmodules")
    git(folder, "commit", "--quiet", "-m", "Superproject")
    for name in ("repo-ml", "repo-api"):
        (folder / name).mkdir()
        git(folder / name, "init", "--quiet")
        commit(folder / name, f"First of {name}")
        assert run_pins(folder, "bump", name).returncode == 0
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Path], tuple[str, Callable[[], None]]]]:
    """Yield a function that serves a folder by git daemon: its address, and how to stop it."""
    with ExitStack() as running:

        def start(folder: Path) -> tuple[str, Callable[[], None]]:
            port = free_port()
            options = ["--export-all", "--enable=receive-pack", "--listen=127.0.0.1", "--reuseaddr"]
            process = subprocess.Popen(
                ["git", "daemon", *options, f"--port={port}", f"--base-path={folder}", str(folder)],
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

            def stop() -> None:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait()

            running.callback(stop)
            until = time.monotonic() + 10
            with socket.socket() as probe:
                while probe.connect_ex(("127.0.0.1", port)):
                    assert time.monotonic() < until, "git daemon does not answer"
                    time.sleep(0.05)
            return f"git://127.0.0.1:{port}", stop

        yield start
