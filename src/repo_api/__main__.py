"""Owns the command line: arguments, environment, and the one place where an error becomes a line.

What is done with them is left to `delivery`, `predict` and `serve`.
"""

import argparse
import logging
import math
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dotenv import load_dotenv

from repo_api.delivery import Delivery
from repo_api.errors import InputError, ReleaseError, SetupError
from repo_api.release import Reference

if TYPE_CHECKING:
    from repo_api.schema import Schema

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  it has no other name
_RELEASE = "edustream/churn-model:v2"
_EPILOG = """\
environment (or a file .env in the current folder):
  EDUSTREAM_REGISTRY     host:port of the registry (default: localhost:5000)
  EDUSTREAM_TRUSTED_KEY  public key of the team that signs the releases, PEM
  EDUSTREAM_CACHE        folder for what was pulled (default: ~/.cache/repo-api)
  EDUSTREAM_SIGNING_KEY  this API's own private key, which signs its contracts, PEM
  EDUSTREAM_CONTRACTS    folder of the released contracts (default: ../contracts)
"""
_UNDECIDED = 3
_DECISIONS = """\
exit code:
  0  yes: every request that this API can send is one that the model accepts
  1  no: a property, a reason and a request that would break are on standard output
  3  could not decide: a registry that is down, no released contract, a model that
     nobody trusted vouches for, a schema that the comparison does not know, a crash
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    1 if a release or a record is refused, 3 if `can-i-deploy` could not decide.
    """
    load_dotenv(Path(".env"))
    # scikit-learn shares every tree among threads, which wait for each other longer than they
    # work; several cores are for several workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.addLevelName(logging.WARNING, "warning")
    logging.basicConfig(format="repo-api: %(levelname)s: %(message)s")
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options) or 0
    except (ReleaseError, InputError) as error:
        sys.stderr.write(f"repo-api: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="repo-api",
        description="Pull a released model from an OCI registry, verify it, and answer with it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(
        commands,
        "pull",
        "fetch a release into the cache",
        "Fetch a release and check every layer against its digest. Nobody vouches for it yet.",
        "repo-api pull\nrepo-api pull edustream/churn-model:v2.0.0",
    ).set_defaults(run=_pull)
    verify = _add(
        commands,
        "verify",
        "pull, and check who made it",
        "Pull a release, check its signature, and that it is what was asked for. Loads nothing.",
        "repo-api verify\nrepo-api verify edustream/churn-model:v1",
    )
    verify.set_defaults(run=_verify)
    predict = _add(
        commands,
        "predict",
        "score JSON lines from standard input",
        "Read one record a line from standard input, write one prediction a line.",
        "repo-api predict < learners.jsonl > predictions.jsonl",
    )
    predict.set_defaults(run=_predict)
    serve = _add(
        commands,
        "serve",
        "answer HTTP requests",
        "Bring a release, and answer HTTP requests with it until told to stop.",
        "repo-api serve\n"
        "repo-api serve --port 8080 --workers 2\n"
        "curl localhost:8000/model\n"
        "open http://localhost:8000/docs",
    )
    serve.set_defaults(run=_serve)
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    serve.add_argument(
        "--port",
        type=partial(_number, kind=int, low=0, high=65535),
        default=8000,
        help="port to listen on; 0 takes a free one (default: %(default)s)",
    )
    serve.add_argument(
        "--workers",
        type=partial(_number, kind=int, low=1, high=1024),
        default=1,
        metavar="N",
        help="processes that share the port (default: %(default)s)",
    )
    serve.add_argument(
        "--watch",
        type=partial(_number, kind=float, low=0, high=86400),
        default=30.0,
        metavar="SECONDS",
        help="time between two looks for a newer release; 0 never looks (default: %(default)s)",
    )
    _add_contract_commands(commands)
    for command in (verify, predict, serve):
        command.add_argument(
            "--allow-downgrade",
            action="store_true",
            help="take a release that is older than what was served before",
        )
    for command in (predict, serve):
        command.add_argument(
            "--request-schema",
            type=Path,
            metavar="FILE",
            help="JSON Schema of a record (default: the one that this version was released with)",
        )
    return parser


def _add_contract_commands(commands: _Commands) -> None:
    can_i_deploy = _command(
        commands,
        "can-i-deploy",
        "ask whether a release accepts all that this API sends",
        "Answer from the registry alone whether this API may go out with a release: the release "
        "is verified,\nand compared with the released contract of this version.",
        "repo-api can-i-deploy\nrepo-api can-i-deploy --model edustream/churn-model:v3",
    )
    can_i_deploy.set_defaults(run=_can_i_deploy)
    can_i_deploy.epilog = f"{_DECISIONS}\n{can_i_deploy.epilog}"
    can_i_deploy.add_argument(
        "--model",
        dest="reference",
        type=_reference,
        default=_RELEASE,
        metavar="REFERENCE",
        help="repository:tag or repository@digest (default: %(default)s)",
    )
    contract = commands.add_parser(
        "contract",
        help="what this API expects of a model",
        description="What this version of the API expects of a model; `tox run -e contract` "
        "writes it.",
    ).add_subparsers(required=True, metavar="COMMAND")
    publish = _command(
        contract,
        "publish",
        "sign the contract of a version, and publish it",
        "Sign the contract of a version with EDUSTREAM_SIGNING_KEY and publish it. A released "
        "contract\nnever changes: the same again succeeds, another one is refused.",
        "repo-api contract publish\nrepo-api contract publish pacts\n"
        "repo-api contract publish ../contracts/repo-api/1.0.0",
    )
    publish.set_defaults(run=_publish_contract)
    publish.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="FOLDER",
        help="what tox run -e contract wrote (default: repo-api/VERSION in EDUSTREAM_CONTRACTS)",
    )


def _command(
    commands: _Commands, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="examples:\n  " + examples.replace("\n", "\n  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add(
    commands: _Commands, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    command = _command(commands, name, summary, description, examples)
    command.add_argument(
        "reference",
        nargs="?",
        type=_reference,
        default=_RELEASE,
        metavar="REFERENCE",
        help="repository:tag or repository@digest (default: %(default)s)",
    )
    return command


def _pull(options: argparse.Namespace) -> None:
    release = _delivery(options).pull()
    sys.stdout.write(f"{release.digest}\n{release.folder}\n")


def _verify(options: argparse.Namespace) -> None:
    delivery = _delivery(options)
    release = delivery.verify()
    sys.stdout.write(
        f"{release.description.name} {release.description.version} {release.digest}\n"
        f"signed by {delivery.trusted_key}\n"
    )


def _predict(options: argparse.Namespace) -> None:
    from repo_api.predict import predict

    request_schema = _request_schema(options)
    model = _delivery(options).bring(request_schema)
    sys.stdout.buffer.writelines(predict(model, request_schema, sys.stdin.buffer))


def _serve(options: argparse.Namespace) -> None:
    from repo_api.serve import Service, run

    delivery = _delivery(options)
    request_schema = _request_schema(options)
    service = Service(
        latest=delivery.current_digest,
        bring=partial(delivery.bring, request_schema),
        request_schema=request_schema,
        watch=options.watch,
    )
    run(service, host=options.host, port=options.port, workers=options.workers)


def _can_i_deploy(options: argparse.Namespace) -> int:
    """Print the answer; whatever keeps it from being found is no answer, and never a yes."""
    from repo_api.contract import own_request_schema
    from repo_api.schema import Schema

    try:
        request_schema = Schema.from_json(own_request_schema(), "request_schema.json")
        # What was served before has no say in what fits.
        delivery = replace(_delivery(options), allow_downgrade=True)
        decision = delivery.can_i_deploy(request_schema)
    except ReleaseError as error:
        sys.stderr.write(f"repo-api: could not decide: {error}\n")
        return _UNDECIDED
    except Exception:  # a crash that ended with 1 would be taken for a no
        logging.exception("could not decide: a bug")  # noqa: LOG015  as `main` configures it
        return _UNDECIDED
    sys.stdout.write(f"{decision}\n")
    return 0 if decision.yes else 1


def _publish_contract(options: argparse.Namespace) -> None:
    from repo_api.contract import Contract, contract_reference, own_version
    from repo_api.publish import publish
    from repo_api.registry import OciRegistry

    contracts = _environment_path("EDUSTREAM_CONTRACTS") or Path("../contracts")
    folder = options.folder or contracts / "repo-api" / own_version()
    key = _environment_path("EDUSTREAM_SIGNING_KEY")
    contract = Contract.from_folder(folder, str(folder))
    if key is None:
        raise SetupError(
            "no signing key; set EDUSTREAM_SIGNING_KEY to this API's own private key, PEM"
        )
    # a folder of released contracts is named after its version, what tox wrote is this one's
    named = re.fullmatch(r"\d+\.\d+\.\d+", folder.resolve().name)
    reference = contract_reference(_host(), named[0] if named else own_version())
    digest, is_new = publish(OciRegistry(_address()), reference, contract, key)
    state = "published" if is_new else "published already, the same"
    sys.stdout.write(f"{reference}\n{digest}\n{contract.interactions} interactions, {state}\n")


def _request_schema(options: argparse.Namespace) -> "Schema":
    from repo_api.schema import Schema

    path = options.request_schema or resources.files("repo_api").joinpath("request_schema.json")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read ({error.strerror})") from error
    return Schema.from_json(content, path.name)


def _delivery(options: argparse.Namespace) -> Delivery:
    return Delivery(
        address=_address(),
        reference=options.reference,
        cache_folder=_environment_path("EDUSTREAM_CACHE") or Path("~/.cache/repo-api").expanduser(),
        trusted_key=_environment_path("EDUSTREAM_TRUSTED_KEY"),
        allow_downgrade=getattr(options, "allow_downgrade", False),
    )


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(_host(), text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(text: str, kind: type[int | float], low: int, high: int) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected a number from {low} to {high}, got {text!r}")
    return number


def _address() -> str:
    return os.environ.get("EDUSTREAM_REGISTRY", "localhost:5000")


def _host() -> str:
    return _address().rpartition("://")[2]


def _environment_path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None


if __name__ == "__main__":
    sys.exit(main())
