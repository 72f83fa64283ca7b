"""Tests of `verify`: every reason for which a pulled release is not loaded."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import CHANNEL, MODEL_FILE, KeyPair, MakeRelease, make_keys, sign
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
    PulledRelease,
    Reference,
    ServedRelease,
    VerifiedRelease,
)
from repo_api.verify import verify

DIGEST = "sha256:" + "a" * 64


def pulled(folder: Path, tag: str = "v2") -> PulledRelease:
    return PulledRelease(folder, Reference(CHANNEL.registry, CHANNEL.repository, tag), DIGEST)


def check(
    release: PulledRelease,
    keys: KeyPair,
    last_served: str | None = None,
    *,
    allow_downgrade: bool = False,
) -> VerifiedRelease:
    return verify(
        release,
        keys.public,
        last_served=ServedRelease(DIGEST, Version(last_served)) if last_served else None,
        allow_downgrade=allow_downgrade,
    )


@pytest.mark.parametrize("tag", ["v2", "v2.0.0", "latest", DIGEST])
def test_verify_accepts_a_signed_release(
    make_release: MakeRelease, keys: KeyPair, tag: str
) -> None:
    release = pulled(make_release(), tag)

    verified = check(release, keys)

    assert (verified.folder, verified.reference, verified.digest) == (
        release.folder,
        release.reference,
        release.digest,
    )
    assert verified.description.version == Version("2.0.0")


def test_verify_refuses_a_release_without_a_signature(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    folder = make_release()
    (folder / SIGNATURE_FILE).unlink()

    with pytest.raises(SignatureError, match=r"got no model\.sig; ask its producer to sign"):
        check(pulled(folder), keys)


def test_verify_refuses_another_key(
    make_release: MakeRelease, keys: KeyPair, tmp_path: Path
) -> None:
    folder = make_release(key=make_keys(tmp_path).private)

    with pytest.raises(SignatureError, match="Key mismatch"):
        check(pulled(folder), keys)


def test_verify_refuses_another_key_that_claims_to_be_the_trusted_one(
    make_release: MakeRelease, keys: KeyPair, tmp_path: Path
) -> None:
    honest, forged = make_release(), make_release(key=make_keys(tmp_path).private)
    bundle = json.loads((forged / SIGNATURE_FILE).read_text(encoding="utf-8"))
    bundle["verificationMaterial"] = json.loads(
        (honest / SIGNATURE_FILE).read_text(encoding="utf-8")
    )["verificationMaterial"]
    (forged / SIGNATURE_FILE).write_text(json.dumps(bundle), encoding="utf-8")

    with pytest.raises(SignatureError, match="InvalidSignature"):
        check(pulled(forged), keys)


def change(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"another model")


def remove(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()


def slip_in(folder: Path) -> None:
    (folder / "stranger.py").touch()


@pytest.mark.parametrize(
    ("tamper", "difference"),
    [
        (change, f"got other bytes in {MODEL_FILE};"),
        (remove, f"Missing files .*{MODEL_FILE}"),
        (slip_in, r"Extra files .*stranger\.py"),
    ],
)
def test_verify_refuses_files_that_were_not_signed(
    make_release: MakeRelease, keys: KeyPair, tamper: Callable[[Path], None], difference: str
) -> None:
    folder = make_release()
    tamper(folder)

    with pytest.raises(SignatureError, match=difference):
        check(pulled(folder), keys)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"verificationMaterial": {}}'])
def test_verify_refuses_a_signature_that_cannot_be_read(
    make_release: MakeRelease, keys: KeyPair, content: bytes
) -> None:
    folder = make_release()
    (folder / SIGNATURE_FILE).write_bytes(content)

    with pytest.raises(SignatureError, match="expected a signature by"):
        check(pulled(folder), keys)


@pytest.mark.parametrize("tag", ["v1", "v3", "v2.0.1", "v1.0.0"])
def test_verify_refuses_a_signed_release_under_another_tag(
    make_release: MakeRelease, keys: KeyPair, tag: str
) -> None:
    with pytest.raises(
        SignatureError, match=rf"expected churn-model {tag}, got .* churn-model 2\.0\.0"
    ):
        check(pulled(make_release(), tag), keys)


def test_verify_refuses_a_signed_release_of_another_model(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    folder = make_release(name="credit-model")

    with pytest.raises(SignatureError, match=r"got the signed release credit-model 2\.0\.0"):
        check(pulled(folder), keys)


def test_verify_refuses_a_release_without_a_description(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    folder = make_release()
    (folder / DESCRIPTION_FILE).unlink()
    (folder / SIGNATURE_FILE).unlink()
    sign(folder, keys.private)

    with pytest.raises(FormatError, match=r"expected a file release\.json"):
        check(pulled(folder), keys)


def test_verify_refuses_a_description_that_cannot_be_read(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    folder = make_release(golden_examples="none")

    with pytest.raises(FormatError, match=r"release\.json: cannot be read"):
        check(pulled(folder), keys)


def test_verify_refuses_a_model_made_by_another_scikit_learn(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    folder = make_release(libraries={"scikit-learn": "0.24.2"})

    with pytest.raises(
        ContractError, match=r"made by scikit-learn 0\.24\.2, .*scikit-learn==0\.24\.\*"
    ):
        check(pulled(folder), keys)


def test_verify_refuses_what_is_older_than_what_was_served(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    with pytest.raises(DowngradeError, match=r"expected version 2\.0\.1.*--allow-downgrade"):
        check(pulled(make_release()), keys, "2.0.1")


@pytest.mark.parametrize("last_served", ["2.0.0", "1.9.0"])
def test_verify_accepts_the_same_or_a_newer_version(
    make_release: MakeRelease, keys: KeyPair, last_served: str
) -> None:
    assert check(pulled(make_release()), keys, last_served)


def test_verify_accepts_an_older_version_if_told_so(
    make_release: MakeRelease, keys: KeyPair
) -> None:
    assert check(pulled(make_release()), keys, "2.0.1", allow_downgrade=True)


@pytest.mark.parametrize("content", [None, b"no key"])
def test_verify_needs_a_trusted_key(
    make_release: MakeRelease, tmp_path: Path, content: bytes | None
) -> None:
    key = tmp_path / "trusted.pub"
    if content:
        key.write_bytes(content)

    with pytest.raises(SetupError, match=r"trusted\.pub: cannot be read .*EDUSTREAM_TRUSTED_KEY"):
        verify(pulled(make_release()), key, last_served=None)


def test_a_copy_of_a_signed_folder_is_as_good(
    make_release: MakeRelease, keys: KeyPair, tmp_path: Path
) -> None:
    copy = shutil.copytree(make_release(), tmp_path / "copy")

    assert check(pulled(copy), keys)
