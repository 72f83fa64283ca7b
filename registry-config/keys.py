"""Keys: each team gets a private key of its own, and the other team's public key.

Owns the files `.keys/` and `.env` of the two houses, and makes each once; what is
signed with the keys is left to the teams.
"""

from __future__ import annotations

import shlex
from pathlib import Path

# Who signs, and what the other team calls the key that it trusts.
TEAMS = {"repo-ml": "repo-api", "repo-api": "repo-ml"}


def hand_out(root: Path) -> list[str]:
    """Make the keys and settings that are missing, and change none that are there.

    Args:
        root: The folder of the superproject.

    Returns:
        What was done or could not be done, a line each.

    Raises:
        ModuleNotFoundError: A key is to be made and `cryptography` is not installed.
    """
    present = [team for team in TEAMS if (root / team / "pyproject.toml").exists()]
    said = [
        f"{team}/ is not there, so it gets no keys: ./toxw initialises it, then run up again"
        for team in TEAMS
        if team not in present
    ]
    for team in present:
        private = root / team / ".keys" / "signing.pem"
        public = root / TEAMS[team] / ".keys" / f"{team}.pub"
        if public.exists() and not private.exists():
            said.append(f"{public} has lost its private key; delete it to get a new pair")
            continue
        if not private.exists():
            write_private(private, new_private_key())
            said.append(f"made {private}")
        if TEAMS[team] in present and not public.exists():
            write_private(public, public_key_of(private.read_bytes()))
            said.append(f"made {public}")
    for team in present:
        keys = root / team / ".keys"
        settings = {
            "EDUSTREAM_SIGNING_KEY": keys / "signing.pem",
            "EDUSTREAM_TRUSTED_KEY": keys / f"{TEAMS[team]}.pub",
        }
        file = root / team / ".env"
        if not file.exists():
            lines = [f"{name}={shlex.quote(str(path))}\n" for name, path in settings.items()]
            write_private(file, "".join(lines).encode())
            said.append(f"made {file}")
    return said


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(content)


def new_private_key() -> bytes:
    """Return a new P-256 private key as PEM (PKCS #8)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_key_of(private_key: bytes) -> bytes:
    """Return the public half of a private key as PEM (SubjectPublicKeyInfo)."""
    from cryptography.hazmat.primitives import serialization

    return (
        serialization.load_pem_private_key(private_key, password=None)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
