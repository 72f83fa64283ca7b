"""The conversation with a registry, over a real socket, also where it goes badly."""

import base64
import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import Answer, MemoryRegistry, RegistryServer, sha256
from repo_ml.errors import IntegrityError, RegistryError
from repo_ml.registry import OciRegistry
from repo_ml.release import Descriptor, Reference

_REPOSITORY = "edustream/churn-model"
_CONTENT = b"a model" * 300_000  # two pieces
_LAYER = Descriptor("application/octet-stream", sha256(_CONTENT), len(_CONTENT), "model.pkl")
_TAGGED = Reference("", _REPOSITORY, "v2.0.0")
_OVERLOADED: Answer = (503, {}, b"overloaded")


def _nobody(_: int) -> None:
    """Show no progress."""


@pytest.fixture
def registry(server: RegistryServer) -> OciRegistry:
    return OciRegistry(server.address)


def _tag(kept: MemoryRegistry, tag: str = "v2.0.0") -> bytes:
    """Let the server hold a release."""
    kept.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)
    described = {"digest": _LAYER.digest}
    manifest = json.dumps({"config": described, "layers": []}).encode()
    kept.push_manifest(Reference("", _REPOSITORY, tag), manifest)
    return manifest


def _log_in(folder: Path, address: str, password: str = "secret") -> str:  # noqa: S107  # of a made-up login
    """Do as `oras login` does; gives the value of the header."""
    login = base64.b64encode(f"team:{password}".encode()).decode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": login}}}))
    return f"Basic {login}"


def test_pushed_file_is_there_byte_for_byte(server: RegistryServer, registry: OciRegistry) -> None:
    path, through = Path("model.pkl"), list[int]()
    path.write_bytes(_CONTENT)

    registry.push(_REPOSITORY, _LAYER, path, through.append)

    assert server.registry.blobs[_LAYER.digest] == _CONTENT
    assert sum(through) == _LAYER.size
    assert max(through) < _LAYER.size


def test_pushed_bytes_are_there_too(server: RegistryServer, registry: OciRegistry) -> None:
    registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)

    assert server.registry.blobs[_LAYER.digest] == _CONTENT


def test_content_that_is_there_is_not_sent_again(
    server: RegistryServer, registry: OciRegistry
) -> None:
    through = list[int]()
    server.registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)

    registry.push(_REPOSITORY, _LAYER, Path("not-even-opened"), through.append)

    assert server.count("PUT") == 0
    assert through == [_LAYER.size]


def test_pushed_manifest_is_resolved_and_read(
    server: RegistryServer, registry: OciRegistry
) -> None:
    manifest = _tag(server.registry)

    registry.push_manifest(Reference("", _REPOSITORY, "v2"), manifest)

    digest = registry.resolve(Reference("", _REPOSITORY, "v2"))
    assert digest == sha256(manifest)
    assert registry.manifest(_REPOSITORY, digest) == manifest


def test_unknown_tag_resolves_to_nothing(registry: OciRegistry) -> None:
    assert registry.resolve(_TAGGED) is None


def test_read_gives_what_the_descriptor_says(server: RegistryServer, registry: OciRegistry) -> None:
    server.registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)

    assert registry.read(_REPOSITORY, _LAYER) == _CONTENT


def test_layer_with_a_flipped_bit_is_refused(server: RegistryServer, registry: OciRegistry) -> None:
    server.registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)
    server.registry.corrupt(_LAYER.digest)

    with pytest.raises(IntegrityError, match="do not use it") as refused:
        registry.read(_REPOSITORY, _LAYER)

    assert refused.value.expected == _LAYER.digest


def test_manifest_that_is_not_what_its_digest_says_is_refused(
    server: RegistryServer, registry: OciRegistry
) -> None:
    digest = sha256(_tag(server.registry))
    server.registry.corrupt(digest)

    with pytest.raises(IntegrityError, match=digest):
        registry.manifest(_REPOSITORY, digest)


def test_truncated_answer_is_refused(server: RegistryServer, registry: OciRegistry) -> None:
    short: Answer = (200, {}, _CONTENT[:-1])
    server.answer_instead("GET", "/blobs/", short)

    with pytest.raises(IntegrityError):
        registry.read(_REPOSITORY, _LAYER)


def test_missing_layer_is_told(registry: OciRegistry) -> None:
    with pytest.raises(RegistryError, match="missing in the registry"):
        registry.read(_REPOSITORY, _LAYER)


def test_tags_of_an_unknown_repository_are_none(
    server: RegistryServer, registry: OciRegistry
) -> None:
    server.answer_instead("GET", "/tags/list", (404, {}, b"{}"))

    assert registry.tags(_REPOSITORY) == ()


def test_tags_may_be_null(server: RegistryServer, registry: OciRegistry) -> None:
    server.answer_instead("GET", "/tags/list", (200, {}, b'{"tags": null}'))

    assert registry.tags(_REPOSITORY) == ()


def test_tags_are_read_page_after_page(server: RegistryServer, registry: OciRegistry) -> None:
    following = {"Link": f'</v2/{_REPOSITORY}/tags/list?last=b>; rel="next"'}
    backwards = {"Link": f'</v2/{_REPOSITORY}/tags/list>; rel="prev"'}
    server.answer_instead(
        "GET",
        "/tags/list",
        (200, following, b'{"tags": ["a", "b"]}'),
        (200, backwards, b'{"tags": ["c"]}'),
    )

    assert registry.tags(_REPOSITORY) == ("a", "b", "c")
    assert [seen[1].rpartition("/")[2] for seen in server.seen] == ["list", "list?last=b"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"errors": []}'])
def test_something_else_that_answers_is_told(
    body: bytes, server: RegistryServer, registry: OciRegistry
) -> None:
    server.answer_instead("GET", "/tags/list", (200, {}, body))

    with pytest.raises(RegistryError, match="something answers that is no OCI registry"):
        registry.tags(_REPOSITORY)


def test_tag_without_a_digest_is_told(server: RegistryServer, registry: OciRegistry) -> None:
    server.answer_instead("HEAD", "/manifests/", (200, {}, b""))

    with pytest.raises(RegistryError, match="something answers that is no OCI registry"):
        registry.resolve(_TAGGED)


def test_server_error_is_tried_three_times(server: RegistryServer, registry: OciRegistry) -> None:
    server.answer_instead("GET", "/tags/list", *[_OVERLOADED] * 5)

    with pytest.raises(RegistryError, match=r"the registry answers 503 .*overloaded"):
        registry.tags(_REPOSITORY)

    assert server.count("GET") == 3


@pytest.mark.parametrize("status", [500, 502, 504])
def test_server_error_that_passes_is_none(
    status: int, server: RegistryServer, registry: OciRegistry
) -> None:
    server.answer_instead("GET", "/tags/list", (status, {}, b""))

    assert registry.tags(_REPOSITORY) == ()


def test_file_is_sent_whole_again_after_a_503(
    server: RegistryServer, registry: OciRegistry
) -> None:
    path, through = Path("model.pkl"), list[int]()
    path.write_bytes(_CONTENT)
    server.answer_instead("PUT", "/uploads/", _OVERLOADED)

    registry.push(_REPOSITORY, _LAYER, path, through.append)

    assert [len(seen[3]) for seen in server.seen if seen[0] == "PUT"] == [_LAYER.size] * 2
    assert server.registry.blobs[_LAYER.digest] == _CONTENT
    assert sum(through) == _LAYER.size


def test_full_disk_is_told_in_one_line(server: RegistryServer, registry: OciRegistry) -> None:
    full: Answer = (507, {}, b'{"errors": [\n  {"message": "no space left on device"}]}')
    server.answer_instead("PUT", "/uploads/", full)

    with pytest.raises(RegistryError, match=r"no space left on device.*its disk") as refused:
        registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)

    assert "\n" not in str(refused.value)


def test_registry_that_refuses_a_manifest_is_told(registry: OciRegistry) -> None:
    manifest = json.dumps({"config": {"digest": "sha256:none"}, "layers": []}).encode()

    with pytest.raises(RegistryError, match="the registry answers 400"):
        registry.push_manifest(_TAGGED, manifest)


def test_registry_that_is_down_is_told_with_the_next_thing_to_try() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(RegistryError, match=r"refused.*start it, or set EDUSTREAM_REGISTRY"):
            OciRegistry(address).tags(_REPOSITORY)


def test_address_that_is_none_is_told() -> None:
    with pytest.raises(RegistryError, match="does not answer"):
        OciRegistry("http://:x:").tags(_REPOSITORY)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1", "http://127.0.0.1/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("http://registry.example.org", "http://registry.example.org/v2"),
        ("https://localhost:5000/", "https://localhost:5000/v2"),
        ("registry.example.org", "https://registry.example.org/v2"),
        ("localhost.example.org:5000", "https://localhost.example.org:5000/v2"),
    ],
)
def test_plain_http_is_for_this_machine_and_on_request(address: str, url: str) -> None:
    assert OciRegistry(address)._url == url  # noqa: SLF001  # nothing is sent here


def test_basic_login_is_that_of_the_docker_configuration(
    server: RegistryServer,
    registry: OciRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    login = _log_in(tmp_path / "docker", server.address)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    challenge: Answer = (401, {"WWW-Authenticate": 'Basic realm="team"'}, b"")
    server.guard = lambda _, headers: None if headers.get("Authorization") == login else challenge
    path = Path("model.pkl")
    path.write_bytes(_CONTENT)

    registry.push(_REPOSITORY, _LAYER, path, _nobody)

    assert server.registry.blobs[_LAYER.digest] == _CONTENT
    assert server.count("HEAD") == 2
    assert server.count("PUT") == 1


def test_bearer_token_is_asked_for_with_the_login(
    server: RegistryServer,
    registry: OciRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    login = _log_in(tmp_path / "docker", server.address)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    realm = f'Bearer realm="http://{server.address}/token",service="team",scope="pull,push"'

    def guard(path: str, headers: Mapping[str, str]) -> Answer | None:
        if path.startswith("/token") and headers.get("Authorization") == login:
            return 200, {}, b'{"token": "t1"}'
        if headers.get("Authorization") == "Bearer t1":
            return None
        return 401, {"WWW-Authenticate": realm}, b""

    server.guard = guard

    registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)

    assert server.registry.blobs[_LAYER.digest] == _CONTENT


@pytest.mark.parametrize("scheme", ['Basic realm="team"', "Negotiate", ""])
def test_registry_without_a_login_of_ours_says_how_to_log_in(
    scheme: str, server: RegistryServer, registry: OciRegistry
) -> None:
    challenge: Answer = (401, {"WWW-Authenticate": scheme}, b"")
    server.guard = lambda *_: challenge

    with pytest.raises(
        RegistryError, match=rf"refuses \(401\); log in: oras login {server.address}"
    ):
        registry.tags(_REPOSITORY)


def test_wrong_password_says_how_to_log_in(
    server: RegistryServer,
    registry: OciRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _log_in(tmp_path / "docker", server.address, "wrong")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    challenge: Answer = (401, {"WWW-Authenticate": 'Basic realm="team"'}, b"")
    server.guard = lambda *_: challenge

    with pytest.raises(RegistryError, match=r"refuses \(401\)"):
        registry.tags(_REPOSITORY)

    assert server.count("GET") == 2


def test_login_that_may_not_write_is_told(server: RegistryServer, registry: OciRegistry) -> None:
    server.answer_instead("POST", "/uploads/", (403, {}, b""))

    with pytest.raises(RegistryError, match=r"refuses \(403\)"):
        registry.push(_REPOSITORY, _LAYER, _CONTENT, _nobody)


@pytest.mark.parametrize("answers_itself", [True, False])
def test_referrer_is_found_with_and_without_the_api(
    answers_itself: bool,  # noqa: FBT001  # a parameter of the test
    server: RegistryServer,
    registry: OciRegistry,
) -> None:
    subject, kind = sha256(_tag(server.registry)), "application/vnd.example"
    said = json.dumps({"config": {"digest": _LAYER.digest}, "layers": []}).encode()
    entry = {"digest": sha256(said), "artifactType": kind}
    if answers_itself:
        index = json.dumps({"manifests": [entry]}).encode()
        server.answer_instead("PUT", "/manifests/", (201, {"OCI-Subject": subject}, b""))
        server.answer_instead("GET", "/referrers/", (200, {}, index), (200, {}, index))
    else:
        fallback = subject.replace(":", "-")
        server.answer_instead("PUT", f"/manifests/{fallback}", (201, {}, b""))

    registry.push_referrer(_REPOSITORY, subject, said, kind)

    if answers_itself:
        assert registry.referrers(_REPOSITORY, subject, kind) == (entry["digest"],)
        assert registry.referrers(_REPOSITORY, subject, "another") == ()
    else:
        _, path, _, body = server.seen[-1]
        assert path.endswith(f"/manifests/{fallback}")
        assert json.loads(body)["manifests"][0]["digest"] == entry["digest"]
