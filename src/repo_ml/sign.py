"""Owns signatures: key pairs, and the OpenSSF Model Signing bundle over a release.

The only module that imports the signing library.
"""

import base64
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm  # noqa: TID251
from cryptography.hazmat.primitives import hashes, serialization  # noqa: TID251
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: TID251
from google.protobuf import json_format
from model_signing import hashing, verifying  # noqa: TID251
from model_signing._signing import sign_ec_key, sign_sigstore_pb  # noqa: TID251
from model_signing._signing.signing import Payload  # noqa: TID251
from sigstore_models import intoto
from sigstore_models.bundle import v1 as bundle

from repo_ml.errors import FormatError, SignatureError
from repo_ml.release import SIGNATURE_FILE, PackagedRelease, SignedRelease

# sigstore bundle 0.3 and in-toto attestation 1.0
_BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT_TYPE = "application/vnd.in-toto+json"


def keygen(folder: Path) -> tuple[Path, Path]:
    """Make a P-256 key pair: `signing.pem` to keep, `signing.pub` to give away.

    Raises:
        SignatureError: There is a key already.
    """
    private, public = folder / "signing.pem", folder / "signing.pub"
    for path in (private, public):
        if path.exists():
            raise SignatureError(f"{path}: there is a key already; move it away to make another")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


def sign(packaged: PackagedRelease, key: Path) -> SignedRelease:
    """Write the signature over every file of the release.

    The same release and key give the same signature.

    Args:
        packaged: A release that `package` wrote.
        key: A P-256 private key, PEM.

    Raises:
        SignatureError: The key cannot be used.
        FormatError: The folder holds something else than files.
    """
    signature = packaged.folder / SIGNATURE_FILE
    partial = packaged.folder.with_name(f".{packaged.folder.name}.sig")
    try:
        signer = _Signer(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            f"{key}: expected a P-256 private key without a password, got another ({error}); "
            "make one: repo-ml keygen .keys"
        ) from error
    config = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    try:
        payload = Payload(config.hash(packaged.folder))
    except ValueError as error:  # a link, say
        raise FormatError(f"{packaged.folder}: cannot be signed: {error}") from error
    signer.sign(payload).write(partial)
    partial.replace(signature)
    return SignedRelease(packaged.folder, packaged.description)


def check_signature(folder: Path, signature: Path, key: Path) -> None:
    """Hold a folder against a signature that somebody else made.

    Args:
        folder: What was signed.
        signature: The bundle.
        key: The public key that is trusted, PEM.

    Raises:
        SignatureError: The key cannot be used, or the signature is not its.
    """
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
        config.verify(folder, signature)
    except Exception as error:  # the library raises whatever its parsers do
        raise SignatureError(
            f"expected a signature by {key}, got another: {error or type(error).__name__}"
        ) from error


class _Signer(sign_ec_key.Signer):
    """Signs the same release alike each time, which the library's own signer does not.

    It sorts the statement's keys and derives the nonce from the message (RFC 6979).
    """

    def __init__(self, key: Path) -> None:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise TypeError(type(loaded).__name__)
        if not isinstance(loaded.curve, ec.SECP256R1):
            raise TypeError(loaded.curve.name)
        self._key = self._private_key = loaded  # the second is what the library reads

    def sign(self, payload: Payload) -> sign_sigstore_pb.Signature:
        statement = json_format.MessageToJson(payload.statement.pb, sort_keys=True).encode()
        algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
        signature = self._key.sign(sign_sigstore_pb.pae(statement), algorithm)
        return sign_sigstore_pb.Signature(
            bundle.Bundle(
                media_type=_BUNDLE_TYPE,
                verification_material=self._get_verification_material(),
                dsse_envelope=intoto.Envelope(
                    payload=base64.b64encode(statement),
                    payload_type=_STATEMENT_TYPE,
                    signatures=[intoto.Signature(sig=base64.b64encode(signature), keyid="")],
                ),
            )
        )
