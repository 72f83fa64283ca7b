"""Owns what can go wrong, grouped by who must act; raising it is left to the verbs."""

from collections.abc import Sequence


class ReleaseError(Exception):
    """A release cannot be used; the message says why and what to try next."""


class RegistryError(ReleaseError):
    """The registry cannot be reached, or refuses: the operator must act."""


class ReleaseNotFoundError(RegistryError):
    """The registry answers, and does not know the release."""

    def __init__(self, reference: str, repository: str) -> None:
        """Compose the message for `reference`, which lies in `repository`."""
        super().__init__(
            f"{reference}: not released; ask its producer to publish it, "
            f"or see what there is: oras repo tags {repository}"
        )
        self.reference = reference


class IntegrityError(ReleaseError):
    """Bytes are not what their descriptor says: stop."""

    def __init__(self, subject: str, expected: str, got: str) -> None:
        """Compose the message: what, what it should be, what it is."""
        super().__init__(f"{subject}: expected {expected}, got {got}; do not use it")
        self.subject = subject
        self.expected = expected
        self.got = got


class SignatureError(ReleaseError):
    """The signature is missing, or not by the trusted key: stop."""


class DowngradeError(ReleaseError):
    """The release is older than one that was already served: the operator must decide."""


class ContractError(ReleaseError):
    """The release and this consumer do not fit: the team that changed must act."""


class FormatError(ReleaseError):
    """A release or a schema cannot be read: its producer must act."""


class SetupError(ReleaseError):
    """This machine lacks a key, a writable cache or a free port: the operator must act."""


class InputError(Exception):
    """A record does not fit the request schema: the client must act."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """Compose the message from pairs of a field and the reason."""
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in problems))
        self.problems = tuple(problems)


class JsonError(InputError):
    """What should be a record is no JSON: the client must act."""

    def __init__(self, reason: str) -> None:
        """Compose the message from the parser's reason."""
        super().__init__([("(body)", f"expected JSON, got what cannot be parsed: {reason}")])
