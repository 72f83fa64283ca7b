"""The registry as a program of this machine, in a process that outlives the command.

Owns the process and its pid file, and the installation of Debian's package.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from machine import run, succeeds
from place import CONFIGURATION, Place

STOP_SECONDS = 10


def start(place: Place) -> bool:
    """Start the registry, where the program is there or can be installed."""
    program = find() or install()
    if program is None:
        return False
    # The registry takes every REGISTRY_ variable for a setting of its own.
    inherited = {key: value for key, value in os.environ.items() if key[:9] != "REGISTRY_"}
    settings = {
        "REGISTRY_HTTP_ADDR": f"127.0.0.1:{place.port}",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(place.storage),
        "OTEL_TRACES_EXPORTER": "none",
    }
    with place.pid_file.open("w", encoding="utf-8") as lock, place.log.open("wb") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [program, "serve", str(CONFIGURATION)],
            env=inherited | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        lock.write(str(process.pid))
    return True


def running(place: Place) -> str | None:
    """Say which process runs at a place, if any."""
    pid = pid_of(place)
    return f"program {pid}" if pid else None


def stop(place: Place) -> None:
    """Stop the process that runs at a place."""
    until = time.monotonic() + STOP_SECONDS
    while pid := pid_of(place):
        os.kill(pid, signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        time.sleep(0.1)
    place.pid_file.unlink(missing_ok=True)


def last_words(place: Place) -> str:
    """Return the end of what the program said, if it ever ran."""
    return place.log.read_text(encoding="utf-8")[-500:] if place.log.exists() else ""


def pid_of(place: Place) -> int | None:
    """Return the process id of the program that runs at a place.

    The process holds a lock on its pid file: a file left behind is not taken for
    a process, whoever has got that number since.
    """
    if not place.pid_file.exists():
        return None
    with place.pid_file.open(encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read())
    return None


def find() -> str | None:
    """Return the Distribution program on the PATH."""
    for name in ("registry", "docker-registry"):
        path = shutil.which(name)
        if path and succeeds(path, "--version") and "distribution" in run(path, "--version"):
            return path
    return None


def install() -> str | None:
    """Install Debian's package, where that is possible, without its service on port 5000."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return None
    print("installing docker-registry", flush=True)
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        policy.chmod(0o755)
    try:
        run("apt-get", "update")
        run(
            *("apt-get", "install", "--yes", "--no-install-recommends", "docker-registry"),
            DEBIAN_FRONTEND="noninteractive",
        )
    finally:
        if ours:
            policy.unlink()
    if shutil.which("systemctl"):
        run("systemctl", "disable", "docker-registry")
    return find()
