"""Owns what can go wrong, grouped by who must act; raising it is left to the verbs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Misfit:
    """One way in which records that may be sent are not accepted, and a record that shows it."""

    property: str
    reason: str
    counterexample: Mapping[str, Any]


class ReleaseError(Exception):
    """A release cannot be made; the message says why and what to try next."""


class RegistryError(ReleaseError):
    """The registry cannot be reached, or refuses: the operator must act."""


class IntegrityError(ReleaseError):
    """Bytes are not what their descriptor says: stop."""

    def __init__(self, subject: str, expected: str, got: str) -> None:
        """Compose the message: what, what it should be, what it is."""
        super().__init__(f"{subject}: expected {expected}, got {got}; do not use it")
        self.subject = subject
        self.expected = expected
        self.got = got


class SignatureError(ReleaseError):
    """There is no key to sign with, or it cannot be used: its owner must act."""


class ContractError(ReleaseError):
    """A release would break what was promised: the team that changed it must act."""


class VersionTakenError(ContractError):
    """The version is released already, with other bytes."""

    def __init__(self, reference: str, released: str, offered: str, free: str) -> None:
        """Compose the message for `reference`, whose manifest digest is `released`."""
        super().__init__(
            f"{reference}: already released as {released}, got {offered}; "
            f"a released version never changes, publish with --version {free}"
        )
        self.reference = reference
        self.released = released
        self.offered = offered
        self.free = free


class VersionClaimError(ContractError):
    """The version claims a smaller change of the input than there is."""

    def __init__(self, offered: str, previous: str, needed: str, reasons: Sequence[str]) -> None:
        """Compose the message: `offered` came after `previous`, `needed` is the least that fits."""
        super().__init__(
            f"version {offered}: expected {needed} or newer after {previous}, "
            f"because {'; '.join(reasons)}; publish with --version {needed}"
        )
        self.offered = offered
        self.previous = previous
        self.needed = needed
        self.reasons = tuple(reasons)


class BrokenPromiseError(ContractError):
    """A consumer that an older release of this major version served could not use this one."""

    def __init__(
        self, offered: str, kept_by: str, consumer: str, misfits: Sequence[Misfit]
    ) -> None:
        """Compose the message: `kept_by` is the release that keeps what `offered` breaks."""
        worst = misfits[0]
        super().__init__(
            f"version {offered}: breaks the contract of {consumer}, which {kept_by} keeps: "
            + "; ".join(f"{misfit.property} {misfit.reason}" for misfit in misfits)
            + f". A request that would fail: {json.dumps(worst.counterexample)}. "
            f"Let {worst.property} be optional and as wide as before, publish under a new major "
            f"version, or wait until {consumer.partition(' ')[0]} has released a contract that fits"
        )
        self.offered = offered
        self.kept_by = kept_by
        self.consumer = consumer
        self.misfits = tuple(misfits)


class FormatError(ReleaseError):
    """A release or a schema cannot be read: its author must act."""


class DataError(ReleaseError):
    """The training data does not fit the input schema: the owner of the data must act."""


class OutsideSchemaError(DataError):
    """The training data holds values that the input schema does not allow."""

    _SHOWN = 10

    def __init__(self, source: str, problems: Sequence[tuple[int, str, str]]) -> None:
        """Compose the message from triples of row (the first is 1), column and value."""
        shown = "; ".join(
            f"row {row}, column {column}: {value}" for row, column, value in problems[: self._SHOWN]
        )
        rest = len(problems) - self._SHOWN
        super().__init__(
            f"{source}: {len(problems)} values outside the schema: {shown}"
            + (f"; and {rest} more" if rest > 0 else "")
        )
        self.source = source
        self.problems = tuple(problems)
