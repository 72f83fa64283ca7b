"""Owns the question between `verify` and `load`: does a release accept all that this API sends?

The proof is in `compatibility`. What the registry knows of the answer is left to `can_i_deploy`.
"""

import json

from repo_api.compatibility import Misfit, compare
from repo_api.errors import ContractError
from repo_api.release import SCHEMA_FILE, VerifiedRelease
from repo_api.schema import Schema, read_input_schema


def find_misfits(verified: VerifiedRelease, request_schema: Schema) -> tuple[Misfit, ...]:
    """Find every way in which a request that this API can send is not accepted; see `compare`.

    Raises:
        FormatError: The input schema of the release cannot be read, or has a
            keyword that the comparison does not know.
    """
    return compare(request_schema, read_input_schema(verified.folder / SCHEMA_FILE))


def check_fit(verified: VerifiedRelease, request_schema: Schema) -> None:
    """Refuse a release that does not accept every request which this API can send.

    Raises:
        ContractError: There is a request that it would not accept; the message shows one.
        FormatError: As `find_misfits` does.
    """
    misfits = find_misfits(verified, request_schema)
    if not misfits:
        return
    first = misfits[0]
    more = f" (and {len(misfits) - 1} more)" if misfits[1:] else ""
    raise ContractError(
        f"{verified.reference}: version {verified.description.version} does not accept what this "
        f"API sends: {first}, as in {json.dumps(first.counterexample)}{more}; "
        "serve an older major version, or let the API send what is wanted first"
    )
