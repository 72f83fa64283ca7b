"""Owns the command line: reads arguments, passes values from verb to verb, prints.

The only place where an error becomes a line and an exit code. A verb is
imported by the command that needs it, so that none pays for another's
libraries: publishing needs no scikit-learn in memory.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from dotenv import load_dotenv
from packaging.version import Version

from repo_ml.contract import Verification
from repo_ml.errors import ContractError, FormatError, ReleaseError, SignatureError
from repo_ml.release import (
    SIGNATURE_FILE,
    Description,
    PackagedRelease,
    SignedRelease,
    Trained,
    open_release,
    release_name,
    release_version,
)
from repo_ml.schema import InputSchema

_SHIPPED = (1, 2)
_LEARNERS, _SEED = 20000, 7
_TRAINED = Path("build/trained.joblib")
_RELEASES = Path("releases")

_EXAMPLES = """\
all in one go, from made-up learners to a release in the registry:
  repo-ml release

step by step, with real data:
  repo-ml data oulad FOLDER --out learners.csv
  repo-ml train --data learners.csv
  repo-ml package --version 2.0.1
  repo-ml sign releases/churn-model-2.0.1
  repo-ml contract verify releases/churn-model-2.0.1
  repo-ml publish releases/churn-model-2.0.1

another business, with no Python written:
  repo-ml release --data customers.csv --schema customers.json --target Churn \\
      --positive Yes --name customer-churn

environment, also read from a file .env in this folder:
  EDUSTREAM_REGISTRY     host:port of the registry (default: localhost:5000)
  EDUSTREAM_SIGNING_KEY  the private key that releases are signed with
  EDUSTREAM_TRUSTED_KEY  the public key that the consumer's contracts are signed with
  EDUSTREAM_CONTRACTS    where contract verify looks: a folder or a registry
  SOURCE_DATE_EPOCH      the time that release.json states (default: the commit's)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives 0, or 1 for an error that one line on standard error explains."""
    load_dotenv(Path.cwd() / ".env")
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ReleaseError as error:
        print(f"repo-ml: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        print(f"repo-ml: error: {subject}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("repo-ml: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="repo-ml",
        description="Train a model, package it, sign it and publish it to an OCI registry.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    data = commands.add_parser("data", help="make a CSV file of learners")
    sources = data.add_subparsers(required=True, metavar="SOURCE")
    synthetic = sources.add_parser("synthetic", help="draw made-up learners")
    synthetic.add_argument("--learners", type=_count, default=_LEARNERS, metavar="N")
    synthetic.add_argument("--seed", type=int, default=_SEED, metavar="N")
    synthetic.set_defaults(run=_synthetic)
    oulad = sources.add_parser("oulad", help="read the tables of the OULAD dataset")
    oulad.add_argument("folder", type=Path, metavar="FOLDER", help="with studentInfo.csv, or .gz")
    oulad.set_defaults(run=_oulad)
    for source in (synthetic, oulad):
        source.add_argument("--out", type=Path, default=Path("learners.csv"), metavar="FILE")

    train = commands.add_parser("train", help="fit an estimator and measure it")
    train.set_defaults(run=_train)
    package = commands.add_parser("package", help="write what was trained as a release folder")
    package.set_defaults(run=_package)
    sign = commands.add_parser("sign", help="sign a release folder")
    sign.set_defaults(run=_sign)
    publish = commands.add_parser("publish", help="hand a signed release to the registry")
    publish.set_defaults(run=_publish)
    release = commands.add_parser("release", help="train, package, sign and publish in one go")
    release.set_defaults(run=_release)
    keygen = commands.add_parser("keygen", help="make a key pair to sign with")
    keygen.add_argument("folder", type=Path, metavar="FOLDER", help="where signing.pem goes")
    keygen.set_defaults(run=_keygen)

    contract = commands.add_parser("contract", help="hold a release against its consumers")
    verify = contract.add_subparsers(required=True, metavar="ACTION").add_parser(
        "verify", help="replay every interaction of every contract against the packaged model"
    )
    verify.add_argument("folder", type=Path, metavar="RELEASE_FOLDER", help="what package wrote")
    verify.add_argument(
        "--contracts",
        default=os.environ.get("EDUSTREAM_CONTRACTS", _address()),
        metavar="FOLDER|REGISTRY",
        help="where they are (default: EDUSTREAM_CONTRACTS, else the registry)",
    )
    verify.add_argument("--consumer-version", metavar="X.Y.Z", help="this one only")
    verify.add_argument("--json", action="store_true", help="a line of JSON for each contract")
    verify.set_defaults(run=_contract_verify)

    for command in (train, release):
        _add_training(command)
    for command in (package, release):
        command.add_argument(
            "--name", type=_name, default="churn-model", help="default: churn-model"
        )
        command.add_argument(
            "--version",
            type=_version,
            metavar="X.Y.Z",
            help="default: N.0.0 with the shipped schema vN, 1.0.0 with another",
        )
    for command in (sign, publish):
        command.add_argument("folder", type=Path, metavar="FOLDER", help="what package wrote")
    return parser


def _add_training(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", type=Path, metavar="FILE", help="CSV (default: made-up learners)"
    )
    command.add_argument(
        "--schema",
        default=f"v{_SHIPPED[-1]}",
        metavar="FILE",
        help=f"JSON Schema of the input, or a shipped one: v1, v2 (default: v{_SHIPPED[-1]})",
    )
    command.add_argument(
        "--target", default="churned", metavar="COLUMN", help="the outcome (default: churned)"
    )
    command.add_argument("--positive", metavar="VALUE", help="which outcome to forecast")
    command.add_argument("--seed", type=int, default=_SEED, metavar="N")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return int(text)


def _name(text: str) -> str:
    try:
        return release_name(text)
    except FormatError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _version(text: str) -> Version:
    try:
        return release_version(text)
    except FormatError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _synthetic(options: argparse.Namespace) -> None:
    from repo_ml.data.synthetic import synthetic
    from repo_ml.data.table import write_table

    print(write_table(synthetic(options.learners, options.seed), options.out))


def _oulad(options: argparse.Namespace) -> None:
    from repo_ml.data.oulad import oulad
    from repo_ml.data.table import write_table

    print(write_table(oulad(options.folder), options.out))


def _train(options: argparse.Namespace) -> None:
    from repo_ml.package import save_trained

    trained = _trained(options)
    save_trained(trained, _TRAINED)
    print(f"kept as {_TRAINED}; next: repo-ml package")


def _package(options: argparse.Namespace) -> None:
    from repo_ml.package import load_trained

    packaged = _packaged(options, load_trained(_TRAINED))
    print(f"next: repo-ml sign {packaged.folder}")


def _sign(options: argparse.Namespace) -> None:
    signed = _signed(open_release(options.folder), _signing_key())
    print(f"next: repo-ml publish {signed.folder}")


def _publish(options: argparse.Namespace) -> None:
    packaged = open_release(options.folder)
    _published(SignedRelease(packaged.folder, packaged.description))


def _release(options: argparse.Namespace) -> None:
    key = _signing_key()  # before the long wait
    _published(_signed(_packaged(options, _trained(options)), key))


def _keygen(options: argparse.Namespace) -> None:
    from repo_ml.sign import keygen

    private, public = keygen(options.folder)
    print(f"{private}: keep it, and set EDUSTREAM_SIGNING_KEY to it")
    print(f"{public}: give it to those who are to trust your releases")


def _trained(options: argparse.Namespace) -> Trained:
    from repo_ml.data.synthetic import synthetic
    from repo_ml.data.table import read_table, training_of
    from repo_ml.train import train

    schema, baseline = _schemas(options.schema)
    if options.data is None:
        learners = synthetic(_LEARNERS, _SEED)
        training = training_of(
            learners, schema, options.target, options.positive, "made-up learners"
        )
    else:
        training = read_table(options.data, schema, options.target, options.positive)
    trained = train(training, seed=options.seed, baseline=baseline)
    for name, scores in (
        ("cross-validation", trained.cross_validation),
        ("held out", trained.held_out),
    ):
        print(
            f"{name:>16}: AUC {scores.auc:.3f}, average precision {scores.average_precision:.3f}, "
            f"Brier {scores.brier:.3f}, log loss {scores.log_loss:.3f}"
        )
    if trained.baseline_auc is not None:
        print(f"  schema before: AUC {trained.baseline_auc:.3f} in cross-validation")
    return trained


def _packaged(options: argparse.Namespace, trained: Trained) -> PackagedRelease:
    from repo_ml.package import package

    version = options.version or _first_version(trained.schema)
    packaged = package(trained, name=options.name, version=version, out=_RELEASES)
    print(f"packaged {packaged.folder}")
    return packaged


def _signing_key() -> Path:
    key = os.environ.get("EDUSTREAM_SIGNING_KEY", "")
    if not Path(key).is_file():
        raise SignatureError(
            f"no signing key{f' at {key}' if key else ''}: set EDUSTREAM_SIGNING_KEY to one, "
            "or make one: repo-ml keygen .keys"
        )
    return Path(key)


def _signed(packaged: PackagedRelease, key: Path) -> SignedRelease:
    from repo_ml.sign import sign

    signed = sign(packaged, key)
    print(f"signed {signed.folder}")
    return signed


def _published(signed: SignedRelease) -> None:
    from repo_ml.handover import hand_over
    from repo_ml.registry import OciRegistry

    description = signed.description
    handed_over = hand_over(OciRegistry(_address()), signed, _trusted_key())
    if handed_over.published.already:
        print(f"{description.tag} is already released with these very bytes")
    if not handed_over.verdicts:
        print("no contract: nobody depends on this model yet")
    for contract, result in handed_over.verdicts:
        print(f"contract of {contract}: {_verdict(result)}")
    if handed_over.left_behind:
        names = [f"{left.consumer} {left.consumer_version}" for left in handed_over.left_behind]
        print(f"left behind, they keep the major version they fit: {', '.join(names)}")
    print(f"{description.repository}:{description.tag}, channel {description.channel}")
    print(f"DEPLOY EXITOSO {handed_over.published.reference}")


def _contract_verify(options: argparse.Namespace) -> None:
    from repo_ml.handover import contracts_at, results_of, verify_all
    from repo_ml.registry import OciRegistry

    packaged = open_release(options.folder)
    known: Mapping[str | None, Verification] = {}
    contracts = contracts_at(options.contracts, _trusted_key())
    if not Path(options.contracts).is_dir() and (packaged.folder / SIGNATURE_FILE).exists():
        signed = SignedRelease(packaged.folder, packaged.description)
        known = results_of(OciRegistry(options.contracts), signed)
    if options.consumer_version:
        contracts = tuple(c for c in contracts if str(c.version) == options.consumer_version)
    results = [result for _, result in verify_all(packaged, contracts, known)]
    if not results:
        raise ContractError(
            f"{options.contracts}: expected a contract about {packaged.description.name}, "
            "got none; nothing was verified"
        )
    if options.json:
        for result in results:
            print(json.dumps(json.loads(result.to_json()), sort_keys=True))
        return
    _print_table(packaged.description, results)
    if not all(result.fits for result in results):
        worst = next(result for result in results if not result.fits)
        raise ContractError(
            f"{worst.model} {worst.model_version} does not fit {worst.consumer} "
            f"{worst.consumer_version}: a request that would fail: "
            f"{json.dumps(worst.misfits[0].counterexample)}"
        )


def _print_table(description: Description, results: Sequence[Verification]) -> None:
    print(f"{description.name} {description.version}")
    for result in results:
        print(f"  {result.consumer} {result.consumer_version:<8} {_verdict(result)}")


def _verdict(result: Verification) -> str:
    passed = result.interactions - len(result.failed)
    counted = f"{passed} of {result.interactions} interactions verified"
    if result.fits:
        return f"fits ({counted})"
    reasons = "; ".join(f"{misfit.property} {misfit.reason}" for misfit in result.misfits)
    return f"does not fit ({counted}): {reasons}"


def _address() -> str:
    return os.environ.get("EDUSTREAM_REGISTRY", "localhost:5000")


def _trusted_key() -> Path | None:
    key = os.environ.get("EDUSTREAM_TRUSTED_KEY")
    return Path(key) if key else None


def _schemas(choice: str) -> tuple[InputSchema, InputSchema | None]:
    """Read the schema chosen, and of a shipped one the one before it."""
    for number in _SHIPPED:
        if choice == f"v{number}":
            before = _shipped(number - 1) if number - 1 in _SHIPPED else None
            return _shipped(number), before
    path = Path(choice)
    if not path.is_file():
        raise FormatError(
            f"{choice}: expected a file, or one of {', '.join(f'v{n}' for n in _SHIPPED)}"
        )
    return InputSchema.from_json(path.read_bytes(), choice), None


def _shipped(number: int) -> InputSchema:
    name = f"v{number}.json"
    content = resources.files("repo_ml").joinpath("schemas", name).read_bytes()
    return InputSchema.from_json(content, name)


def _first_version(schema: InputSchema) -> Version:
    majors = [number for number in _SHIPPED if _shipped(number).source == schema.source]
    return release_version(f"{majors[0] if majors else 1}.0.0")


if __name__ == "__main__":
    sys.exit(main())
