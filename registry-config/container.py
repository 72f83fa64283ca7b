"""The registry as a container, by compose, where a Docker or Podman engine answers.

Owns the choice of engine and image; the settings are in `compose.yaml`.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import program
from machine import run, succeeds
from place import HERE, Place

OWN_IMAGE = "edustream-registry"
PULL_SECONDS = 180
# The engines, each with the ways to compose, the better one first.
ENGINES = {
    "docker": (("docker", "compose"), ("docker-compose",)),
    "podman": (("podman", "compose"),),
}
# What to ask an engine, to see whether its root is the person who started it.
ROOTLESS = {
    "docker": "{{.SecurityOptions}}",
    "podman": "name={{if .Host.Security.Rootless}}rootless{{end}}",
}


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers."""

    name: str
    compose: tuple[str, ...]


@functools.cache
def find_engine() -> Engine | None:
    """Return the first container engine that answers and can compose."""
    for name, ways in ENGINES.items():
        if shutil.which(name) and succeeds(name, "info"):
            for way in ways:
                if shutil.which(way[0]) and succeeds(*way, "version"):
                    return Engine(name, way)
    return None


def running(place: Place) -> str | None:
    """Say which container runs at a place, if any."""
    engine = find_engine()
    if engine is None:
        return None
    label = f"label=com.docker.compose.project={place.project}"
    line = "{{.Names}} ({{.Image}})"
    found = run(engine.name, "ps", "--filter", label, "--format", line)
    return f"{engine.name} container {found}" if found else None


def start(place: Place) -> bool:
    """Start the registry, where an engine answers and has an image."""
    engine = find_engine()
    image = engine and find_image(engine)
    if not engine or not image:
        return False
    compose(engine, place, "up", "--detach", EDUSTREAM_REGISTRY_IMAGE=image)
    return True


def stop(place: Place) -> None:
    """Stop the container that runs at a place, and remove it; its data stays."""
    if engine := find_engine():
        compose(engine, place, "down")


def last_words(place: Place) -> str:
    """Return the end of what the container said, if there is one."""
    engine = find_engine()
    return compose(engine, place, "logs", "--no-color", "--tail", "5") if engine else ""


def compose(engine: Engine, place: Place, *arguments: str, **variables: str) -> str:
    """Run a compose command on the project of a place, and return what it prints."""
    # In a rootless engine the container's root is the person who started it.
    rootless = "name=rootless" in run(engine.name, "info", "--format", ROOTLESS[engine.name])
    owner = "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"
    variables |= {
        "EDUSTREAM_REGISTRY_USER": owner,
        "EDUSTREAM_REGISTRY_PORT": str(place.port),
        "EDUSTREAM_REGISTRY_DATA": str(place.storage),
    }
    file = str(HERE / "compose.yaml")
    return run(*engine.compose, "-f", file, "-p", place.project, *arguments, **variables)


def find_image(engine: Engine) -> str | None:
    """Return an image that the engine has, can pull, or can build here."""
    wanted = os.environ.get("REGISTRY_IMAGE") or "registry:3"
    if succeeds(engine.name, "image", "inspect", wanted):
        return wanted
    print(f"pulling {wanted}", flush=True)
    if succeeds(engine.name, "pull", wanted, seconds=PULL_SECONDS):
        return wanted
    if succeeds(engine.name, "image", "inspect", OWN_IMAGE):
        print(f"{wanted} cannot be pulled; taking {OWN_IMAGE}, built here before")
        return OWN_IMAGE
    if found := program.find():
        print(f"{wanted} cannot be pulled; building {OWN_IMAGE} from {found}", flush=True)
        build(engine, found)
        return OWN_IMAGE
    print(f"{wanted} cannot be pulled, and there is no program to build an image from")
    return None


def build(engine: Engine, registry: str) -> None:
    """Build an image of a program and the libraries that it needs, and nothing else."""
    listed = subprocess.run(["ldd", registry], capture_output=True, text=True, check=False)
    libraries = [word for word in listed.stdout.split() if word.startswith("/")]
    with tempfile.TemporaryDirectory() as context:
        for source, target in [(registry, "/registry"), *((path, path) for path in libraries)]:
            copy = Path(f"{context}/root{target}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        text = 'FROM scratch\nCOPY root/ /\nENTRYPOINT ["/registry", "serve"]\n'
        Path(context, "Dockerfile").write_text(text, encoding="utf-8")
        run(engine.name, "build", "--tag", OWN_IMAGE, context)
