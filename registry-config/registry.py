"""The registry between the two teams: started with what this machine has, on loopback only.

Owns the commands; how a registry runs is left to `container.py` and `program.py`,
the keys to `keys.py`, and what is in the registry to the teams.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import container
import keys
import program
from machine import LocalRegistryError
from place import HERE, Place, taken, the_place

START_SECONDS = 30
DESCRIPTION = """\
Runs CNCF Distribution at the address in EDUSTREAM_REGISTRY (default localhost:5000):
as a container where a Docker or Podman engine answers, else as the `registry` or
`docker-registry` program, which root on Debian and Ubuntu gets installed."""
EPILOG = """\
examples:
  ./toxw run -e registry -- up          start it, and hand out the keys
  ./toxw run -e registry -- status      what runs, where, and what is in it
  EDUSTREAM_REGISTRY=localhost:5001 ./toxw run -e registry -- up
                                        a second one, with data of its own

REGISTRY_IMAGE names another image than registry:3."""
THREE_WAYS_OUT = """\
nothing here can run a registry. Next, one of these:
  - start a container engine (Debian: apt-get install docker.io docker-compose)
  - put Distribution's `registry` on the PATH (Debian: apt-get install docker-registry;
    elsewhere: go install github.com/distribution/distribution/v3/cmd/registry@v3.0.0)
  - set EDUSTREAM_REGISTRY to a registry that runs elsewhere, and leave `up` out"""


def up() -> None:
    """Start the registry, unless it runs, and hand out keys."""
    place = the_place()
    if not running(place):
        if taken(place):
            message = (
                f"port {place.port} is taken by something that was not started here. Next: stop "
                f"it, or choose another port: EDUSTREAM_REGISTRY=localhost:{place.port + 1}"
            )
            raise LocalRegistryError(message)
        place.storage.mkdir(parents=True, exist_ok=True)
        if not (container.start(place) or program.start(place)):
            raise LocalRegistryError(THREE_WAYS_OUT)
    wait_until_it_answers(place)
    print(f"{running(place)} answers at {place.address}")
    try:
        for line in keys.hand_out(HERE.parent):
            print(line)
    except ModuleNotFoundError as error:
        message = f"no keys without the package {error.name}. Next: ./toxw run -e registry -- up"
        raise LocalRegistryError(message) from error


def down() -> None:
    """Stop the registry, and nothing that was started elsewhere; keep its data."""
    place = the_place()
    if stopped := stop(place):
        print(f"stopped {stopped}")
    elif taken(place):
        print(f"left alone what listens at {place.address}: it was not started here")
    else:
        print(f"nothing runs at {place.address}")


def reset() -> None:
    """Empty the registry; it runs afterwards if it ran before."""
    place = the_place()
    stopped = stop(place)
    try:
        if place.storage.exists():
            shutil.rmtree(place.storage)
    except PermissionError as error:
        message = f"{error.filename} is another user's. Next: sudo rm -r {place.storage}"
        raise LocalRegistryError(message) from error
    print(f"emptied {place.storage}")
    if stopped:
        up()


def status() -> None:
    """Print what runs, where, and what is in it."""
    place = the_place()
    runs = running(place)
    nothing = "something that was not started here" if taken(place) else "nothing"
    print(f"address  {place.address}\nruns     {runs or nothing}\ndata     {place.storage}")
    if not runs:
        return
    names: list[str] = fetch(place, "_catalog?n=1000")["repositories"]
    if not names:
        print("\nnothing is published yet")
        return
    width = max(len(name) for name in names)
    print(f"\n{'repository'.ljust(width)}  tags")
    for name in names:
        tags: list[str] = fetch(place, f"{name}/tags/list").get("tags") or ["-"]
        print(f"{name.ljust(width)}  {' '.join(sorted(tags))}")


def build_image() -> None:
    """Make a container image from this machine's own registry program."""
    engine = container.find_engine()
    if engine is None:
        message = "no container engine answers. Next: start one; `up` works without, too"
        raise LocalRegistryError(message)
    found = program.find() or program.install()
    if found is None:
        raise LocalRegistryError(THREE_WAYS_OUT)
    container.build(engine, found)
    print(f"built {container.OWN_IMAGE} from {found}")


def running(place: Place) -> str | None:
    """Say what this checkout runs at a place, if anything."""
    return program.running(place) or container.running(place)


def stop(place: Place) -> str | None:
    """Stop what this checkout runs at a place, and say what it was."""
    what = running(place)
    program.stop(place)
    if what and running(place):
        container.stop(place)
    return what


def wait_until_it_answers(place: Place) -> None:
    """Wait for the registry to be ready, and pass on its last words if it never is."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and running(place):
        try:
            fetch(place, "")
        except LocalRegistryError:
            time.sleep(0.1)
        else:
            return
    words = container.last_words(place) or program.last_words(place)
    message = f"{place.address} does not answer. Next: ./toxw run -e registry -- down\n{words}"
    raise LocalRegistryError(message.strip())


def fetch(place: Place, path: str) -> Any:
    """Return what the registry's interface answers to a GET.

    Raises:
        LocalRegistryError: No answer, or not that of a registry.
    """
    url = f"http://127.0.0.1:{place.port}/v2/{path}"
    # A proxy that the environment names has no business on loopback.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.NOT_FOUND:  # a repository of which the last tag was deleted
                return {}
        message = f"{place.address} answers {error.code} to {url}"
        raise LocalRegistryError(message) from error
    except (OSError, ValueError) as error:
        message = f"{place.address} does not answer as a registry: {error}"
        raise LocalRegistryError(message) from error


def main() -> int:
    """Run the command that was asked for."""
    commands: dict[str, tuple[Callable[[], None], str]] = {
        "up": (up, "start it, unless it runs, and hand out the keys"),
        "down": (down, "stop it, keep its data; leave alone what was not started here"),
        "status": (status, "what runs, where, which repositories and tags"),
        "reset": (reset, "empty it"),
        "build-image": (build_image, "make an image from this machine's registry program"),
    }
    parser = argparse.ArgumentParser(
        prog="registry.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (command, text) in commands.items():
        subparsers.add_parser(name, help=text, description=text).set_defaults(command=command)
    try:
        parser.parse_args().command()
    except LocalRegistryError as error:
        print(f"registry: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
