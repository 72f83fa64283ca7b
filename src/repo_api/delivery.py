"""Owns the way from a reference to a model: pull, verify, fit, load, and the memory of it.

Each step is a module of its own, imported when its turn comes: pulling needs neither the
signing library nor scikit-learn, and they take seconds to import. Answering with the model
is left to `predict` and `serve`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repo_api.cache import Cache
from repo_api.errors import RegistryError, SetupError
from repo_api.progress import bars
from repo_api.pull import pull
from repo_api.registry import OciRegistry
from repo_api.release import PulledRelease, Reference, ServedRelease, VerifiedRelease

if TYPE_CHECKING:
    from repo_api.can_i_deploy import Decision
    from repo_api.model import Model
    from repo_api.schema import Schema


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a release comes from, where it is kept, and whose it must be; picklable."""

    address: str
    reference: Reference
    cache_folder: Path
    trusted_key: Path | None
    allow_downgrade: bool = False

    def current_digest(self) -> str:
        """Ask which digest the reference stands for now, by one HEAD request.

        Raises:
            RegistryError: The registry does not answer, refuses, or does not know it.
        """
        return OciRegistry(self.address).resolve(self.reference)

    def pull(self) -> PulledRelease:
        """Bring the release into the cache.

        Raises:
            ReleaseError: It could not be pulled, or is not what its digests say.
        """
        with bars() as progress:
            return pull(
                OciRegistry(self.address), Cache(self.cache_folder), self.reference, progress
            )

    def verify(self) -> VerifiedRelease:
        """Bring the release, and check that it may be loaded.

        Raises:
            ReleaseError: It could not be brought, or nobody trusted vouches for it.
        """
        if self.trusted_key is None:
            raise SetupError(
                "no trusted key; set EDUSTREAM_TRUSTED_KEY to the public key "
                "that the producer handed out"
            )
        pulled = self.pull()
        from repo_api.verify import verify

        return verify(
            pulled,
            self.trusted_key,
            last_served=Cache(self.cache_folder).last_served(self.reference),
            allow_downgrade=self.allow_downgrade,
        )

    def can_i_deploy(self, request_schema: "Schema") -> "Decision":
        """Ask whether this API may go out with the release, from the registry alone.

        Raises:
            ReleaseError: The question cannot be answered.
        """
        digest = self.current_digest()
        verified = self.verify()
        if verified.digest != digest:
            raise RegistryError(
                f"{self.reference}: expected {digest}, got {verified.digest} from the cache; "
                "ask again when the registry answers"
            )
        from repo_api.can_i_deploy import decide
        from repo_api.contract import own_reference
        from repo_api.fit import find_misfits

        return decide(
            OciRegistry(self.address),
            own_reference(self.reference.registry),
            verified,
            find_misfits(verified, request_schema),
        )

    def bring(self, request_schema: "Schema") -> "Model":
        """Bring the release as a model to answer with, and remember that it was served.

        Raises:
            ReleaseError: One of the steps refused it, or it does not accept what
                this API sends.
        """
        verified = self.verify()
        from repo_api.fit import check_fit
        from repo_api.load import load

        check_fit(verified, request_schema)
        model = load(verified)
        served = ServedRelease(verified.digest, verified.description.version)
        Cache(self.cache_folder).remember(self.reference, served)
        return model
