"""Owns looking at what was released before; nothing here writes."""

from packaging.version import Version

from repo_ml.errors import FormatError
from repo_ml.registry import Registry
from repo_ml.release import SCHEMA_FILE, Reference, layers_from_json, release_version
from repo_ml.schema import InputSchema


def released_versions(registry: Registry, repository: str) -> list[Version]:
    """List the versions in a repository, oldest first; channels and foreign tags are none.

    Raises:
        RegistryError: The registry does not answer, or refuses.
    """
    versions = []
    for tag in registry.tags(repository):
        try:
            versions.append(release_version(tag.removeprefix("v")))
        except FormatError:
            continue
    return sorted(versions)


def released_schema(registry: Registry, reference: Reference) -> InputSchema:
    """Read the input schema of a release, and nothing else of it.

    Raises:
        RegistryError: The registry does not answer, or refuses.
        FormatError: What is released there is none of our releases.
    """
    digest = registry.resolve(reference)
    if digest is None:
        raise FormatError(f"{reference}: listed by the registry and not there; look at its storage")
    content = registry.manifest(reference.repository, digest)
    for layer in layers_from_json(content, str(reference)):
        if layer.title == SCHEMA_FILE:
            content = registry.read(reference.repository, layer)
            return InputSchema.from_json(content, f"{reference}, {SCHEMA_FILE}")
    raise FormatError(f"{reference}: holds no {SCHEMA_FILE}; it is none of our releases")
