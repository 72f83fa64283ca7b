"""Owns the signature of a contract: by this API's own key, over the files of a folder.

What is signed, and where it goes, is left to `publish`.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from model_signing import hashing, signing  # noqa: TID251

from repo_api.errors import SetupError


def sign(folder: Path, signature: Path, key: Path) -> None:
    """Write an OpenSSF Model Signing bundle over all the files of a folder.

    Args:
        folder: What is signed.
        signature: The file to write; it may lie in the folder, and is not signed itself.
        key: A P-256 private key, PEM.

    Raises:
        SetupError: The key cannot be used.
    """
    config = hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key)
        signer.set_hashing_config(config).sign(folder, signature)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SetupError(
            f"{key}: cannot sign with it ({error}); set EDUSTREAM_SIGNING_KEY to this API's "
            "own private key, PEM"
        ) from error
