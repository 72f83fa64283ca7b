"""Owns the second step: who made a pulled release, and whether this consumer should serve it.

The bytes were held against their digests by `pull`; reading the model is left to `load`.
"""

import importlib.metadata
import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from model_signing import verifying  # noqa: TID251
from packaging.version import InvalidVersion, Version

from repo_api.errors import (
    ContractError,
    DowngradeError,
    FormatError,
    SetupError,
    SignatureError,
)
from repo_api.release import (
    DESCRIPTION_FILE,
    SIGNATURE_FILE,
    Description,
    PulledRelease,
    Reference,
    ServedRelease,
    VerifiedRelease,
)


def verify(
    pulled: PulledRelease,
    trusted_key: Path,
    *,
    last_served: ServedRelease | None,
    allow_downgrade: bool = False,
) -> VerifiedRelease:
    """Decide whether a release may be loaded.

    Args:
        pulled: A whole release that nobody vouches for yet.
        trusted_key: The producer's public key, PEM.
        last_served: What was served last under the same reference.
        allow_downgrade: Whether an older release than that is welcome.

    Raises:
        SetupError: The trusted key cannot be read.
        SignatureError: The key did not sign these files, or signed them as
            another release than the one asked for.
        FormatError: The release description cannot be read.
        ContractError: The model was made by another scikit-learn.
        DowngradeError: It is older than what was already served.
    """
    _check_signature(pulled, trusted_key)
    try:
        content = (pulled.folder / DESCRIPTION_FILE).read_bytes()
    except FileNotFoundError as error:
        raise FormatError(
            f"{pulled.reference}: expected a file {DESCRIPTION_FILE}, got none"
        ) from error
    description = Description.from_json(content)
    _check_name(pulled.reference, description)
    _check_scikit_learn(pulled.reference, description)
    if last_served and description.version < last_served.version and not allow_downgrade:
        raise DowngradeError(
            f"{pulled.reference}: expected version {last_served.version}, which was served "
            f"before, or a newer one, got {description.version}; pass --allow-downgrade "
            "if the producer took the newer one back"
        )
    return VerifiedRelease(pulled.folder, pulled.reference, pulled.digest, description)


def _check_signature(pulled: PulledRelease, trusted_key: Path) -> None:
    """Check that the trusted key signed exactly the files of the folder."""
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=trusted_key)
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise SetupError(
            f"{trusted_key}: cannot be read as a public key ({error}); "
            "set EDUSTREAM_TRUSTED_KEY to the one that the producer handed out"
        ) from error
    signature = pulled.folder / SIGNATURE_FILE
    if not signature.exists():
        raise SignatureError(
            f"{pulled.reference}: expected a signature, got no {SIGNATURE_FILE}; "
            "ask its producer to sign it"
        )
    try:
        verifier.verify(pulled.folder, signature)
    except Exception as error:  # whatever it stumbles over is no good signature
        raise SignatureError(
            f"{pulled.reference}: expected a signature by {trusted_key} over all its files, "
            f"got {_difference(error)}; do not use it"
        ) from error


def _difference(error: Exception) -> str:
    """Say what the signing library says, but for its dumps of digests."""
    changed = re.findall(r"Hash mismatch for \W*([\w.-]+)", str(error))
    if changed:
        return f"other bytes in {', '.join(changed)}"
    return str(error).strip() or type(error).__name__


def _check_name(reference: Reference, description: Description) -> None:
    """Check that the signed release is the one asked for, not another under its name."""
    signed = f"{description.name} {description.version}"
    wanted = reference.repository.rpartition("/")[2]
    if description.name != wanted:
        raise SignatureError(f"{reference}: expected {wanted}, got the signed release {signed}")
    channel = re.fullmatch(r"v(\d+)", reference.tag)
    try:
        fits = (
            description.version.major == int(channel[1])
            if channel
            else description.version == Version(reference.tag)
        )
    except InvalidVersion:  # a digest, or a tag such as `latest`: it promises no version
        return
    if not fits:
        raise SignatureError(
            f"{reference}: expected {wanted} {reference.tag}, got the signed release {signed}"
        )


def _check_scikit_learn(reference: Reference, description: Description) -> None:
    """Check the version of the library that unpickles the model, without importing it."""
    installed = Version(importlib.metadata.version("scikit-learn"))
    made_by = description.scikit_learn
    if installed.release[:2] != made_by.release[:2]:
        raise ContractError(
            f"{reference}: made by scikit-learn {made_by}, installed here is {installed}; "
            f'install another: pip install "scikit-learn=={made_by.major}.{made_by.minor}.*"'
        )
