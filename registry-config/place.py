"""Where a registry of this checkout listens and keeps its data.

Owns the names and paths; what runs there is `container.py`'s or `program.py`'s.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from machine import LocalRegistryError

HERE = Path(__file__).resolve().parent
CONFIGURATION = HERE / "distribution.yml"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one registry listens and keeps what it has."""

    port: int

    @property
    def folder(self) -> Path:
        """Everything that belongs to this registry."""
        return HERE / ".data" / str(self.port)

    @property
    def storage(self) -> Path:
        """What was published."""
        return self.folder / "storage"

    @property
    def pid_file(self) -> Path:
        """The program's process id, locked for as long as that process lives."""
        return self.folder / "registry.pid"

    @property
    def log(self) -> Path:
        """What the program says."""
        return self.folder / "registry.log"

    @property
    def project(self) -> str:
        """The compose project: no other checkout's, whatever port that has."""
        return f"edustream-{self.port}-{hashlib.sha256(bytes(HERE)).hexdigest()[:8]}"

    @property
    def address(self) -> str:
        """What goes into EDUSTREAM_REGISTRY."""
        return f"localhost:{self.port}"


def the_place() -> Place:
    """Return the place that EDUSTREAM_REGISTRY names."""
    address = os.environ.get("EDUSTREAM_REGISTRY") or "localhost:5000"
    host, _, port = address.removeprefix("http://").rstrip("/").rpartition(":")
    if host not in {"localhost", "127.0.0.1"} or not re.fullmatch("[1-9][0-9]{0,4}", port):
        message = (
            f"EDUSTREAM_REGISTRY is {address}: expected localhost:PORT. "
            "Next: a registry elsewhere is not ours to run; leave out this command"
        )
        raise LocalRegistryError(message)
    return Place(int(port))


def taken(place: Place) -> bool:
    """Ask whether anything listens on the port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", place.port)) == 0
