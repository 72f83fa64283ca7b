"""Signatures: the same each time, by a key of one's own, and the library's verifier agrees."""

import json
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from model_signing import verifying

from repo_ml.errors import FormatError, SignatureError
from repo_ml.release import PackagedRelease, SignedRelease
from repo_ml.sign import check_signature, keygen, sign

_PRIVATE: Mapping[
    str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
] = {
    "another curve": ec.generate_private_key(ec.SECP384R1()),
    "a curve that is too short": ec.generate_private_key(ec.SECP192R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def _packaged(signed: SignedRelease) -> PackagedRelease:
    return PackagedRelease(signed.folder, signed.description)


def _verify(signed: SignedRelease, public: Path) -> None:
    config = verifying.Config()  # type: ignore[no-untyped-call]  # the library annotates no more
    config.use_elliptic_key_verifier(public_key=public)
    config.verify(signed.folder, signed.folder / "model.sig")


def _pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )


def test_library_verifies_the_signature(signed: SignedRelease, keys: tuple[Path, Path]) -> None:
    _verify(signed, keys[1])


def test_signature_covers_every_file_but_itself(signed: SignedRelease) -> None:
    names = {path.name for path in signed.folder.iterdir()}

    bundle = json.loads((signed.folder / "model.sig").read_bytes())

    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert names == {
        "churn_model_v2.pkl",
        "release.json",
        "input_schema.json",
        "README.md",
        "roc.png",
        "calibration.png",
        "model.sig",
    }


@pytest.mark.parametrize("name", ["churn_model_v2.pkl", "release.json", "README.md"])
def test_library_refuses_a_changed_file(
    name: str, signed: SignedRelease, keys: tuple[Path, Path]
) -> None:
    path = signed.folder / name
    path.write_bytes(path.read_bytes() + b"\n")

    with pytest.raises(ValueError, match=name):
        _verify(signed, keys[1])


@pytest.mark.parametrize("change", ["added", "removed"])
def test_library_refuses_a_file_more_or_less(
    change: str, signed: SignedRelease, keys: tuple[Path, Path]
) -> None:
    if change == "added":
        (signed.folder / "extra.txt").touch()
    else:
        (signed.folder / "roc.png").unlink()

    with pytest.raises(ValueError, match=r"extra\.txt|roc\.png"):
        _verify(signed, keys[1])


def test_library_refuses_another_key(signed: SignedRelease, tmp_path: Path) -> None:
    _, other = keygen(tmp_path / "other")

    with pytest.raises(ValueError, match="Key mismatch"):
        _verify(signed, other)


def test_same_release_and_key_give_the_same_signature_in_another_process(
    signed: SignedRelease, keys: tuple[Path, Path]
) -> None:
    signature = signed.folder / "model.sig"
    first = signature.read_bytes()
    signature.unlink()
    program = (
        "import sys; from pathlib import Path; from repo_ml.release import open_release; "
        "from repo_ml.sign import sign; sign(open_release(Path(sys.argv[1])), Path(sys.argv[2]))"
    )

    subprocess.run([sys.executable, "-c", program, signed.folder, keys[0]], check=True)  # noqa: S603  # our own

    assert signature.read_bytes() == first


def test_signing_again_replaces_the_signature_and_leaves_nothing_else(
    signed: SignedRelease, keys: tuple[Path, Path]
) -> None:
    first = (signed.folder / "model.sig").read_bytes()
    there = set(signed.folder.parent.iterdir())

    sign(_packaged(signed), keys[0])

    assert (signed.folder / "model.sig").read_bytes() == first
    assert set(signed.folder.parent.iterdir()) == there


@pytest.mark.parametrize("kind", _PRIVATE)
def test_key_of_another_kind_is_refused(kind: str, signed: SignedRelease) -> None:
    key = Path("key.pem")
    key.write_bytes(_pem(_PRIVATE[kind]))

    with pytest.raises(SignatureError, match=r"key\.pem: expected a P-256 private key"):
        sign(_packaged(signed), key)


def test_key_with_a_password_is_refused(signed: SignedRelease) -> None:
    key = Path("key.pem")
    secret = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(_pem(secret, serialization.BestAvailableEncryption(b"secret")))

    with pytest.raises(SignatureError, match="without a password"):
        sign(_packaged(signed), key)


def test_public_key_cannot_sign(signed: SignedRelease, keys: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match="expected a P-256 private key"):
        sign(_packaged(signed), keys[1])


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\x00"])
def test_what_is_no_key_is_refused(content: bytes, signed: SignedRelease) -> None:
    key = Path("key.pem")
    key.write_bytes(content)

    with pytest.raises(SignatureError, match="expected a P-256 private key"):
        sign(_packaged(signed), key)


def test_refused_key_leaves_the_signature_alone(signed: SignedRelease) -> None:
    first = (signed.folder / "model.sig").read_bytes()
    Path("key.pem").touch()

    with pytest.raises(SignatureError):
        sign(_packaged(signed), Path("key.pem"))

    assert (signed.folder / "model.sig").read_bytes() == first


def test_link_in_the_folder_is_refused(signed: SignedRelease, keys: tuple[Path, Path]) -> None:
    (signed.folder / "link").symlink_to("/etc/hostname")

    with pytest.raises(FormatError, match="cannot be signed"):
        sign(_packaged(signed), keys[0])


def test_keygen_makes_a_key_that_only_its_owner_reads(keys: tuple[Path, Path]) -> None:
    private, public = keys

    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----")


@pytest.mark.parametrize("name", ["signing.pem", "signing.pub"])
def test_keygen_never_replaces_a_key(name: str) -> None:
    kept = Path("keys") / name
    kept.parent.mkdir()
    kept.write_text("dear")

    with pytest.raises(SignatureError, match=f"{name}: there is a key already; move it away"):
        keygen(Path("keys"))

    assert kept.read_text() == "dear"
    assert [path.name for path in Path("keys").iterdir()] == [name]


def test_signature_of_others_is_checked_against_their_key(
    signed: SignedRelease, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = tmp_path / "their.sig"
    (signed.folder / "model.sig").rename(signature)
    _, other = keygen(tmp_path / "other")

    check_signature(signed.folder, signature, keys[1])

    for key in (other, keys[0], tmp_path / "missing.pub"):
        with pytest.raises(SignatureError, match="expected a signature by"):
            check_signature(signed.folder, signature, key)
