"""Tests of the watch: when a model is swapped, and that nothing else changes it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

import pytest

from fakes import SCHEMA, fake_model
from repo_api.errors import ContractError, RegistryError
from repo_api.metrics import Metrics
from repo_api.model import Model
from repo_api.watch import Watch


class Channel:
    """A channel that moves, with a registry that can fail; counts what it is asked."""

    def __init__(self, model: Model) -> None:
        """Stand for `model`."""
        self.model = model
        self.digest: str | None = None
        self.down = False
        self.broken: Exception | None = None
        self.looks = 0
        self.brought = 0

    def latest(self) -> str:
        """Tell which digest it stands for, or that the registry is down."""
        self.looks += 1
        if self.down:
            raise RegistryError("the registry is down")
        return self.digest or self.model.digest

    def bring(self) -> Model:
        """Give the model, or fail as told."""
        self.brought += 1
        if self.broken:
            raise self.broken
        return self.model


def watched(channel: Channel, act: Callable[[Watch], Awaitable[None]]) -> tuple[Watch, str]:
    """Bring the first model, act, and return the watch with the metrics."""
    metrics = Metrics()

    async def main() -> Watch:
        watch = Watch(channel.latest, channel.bring, SCHEMA, metrics)
        await watch.run(0, lambda _model: None)
        await act(watch)
        return watch

    return asyncio.run(main()), metrics.exposition().decode()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  nobody is there to set an event
            await asyncio.sleep(0.01)


def version(watch: Watch) -> str:
    assert watch.current is not None
    return watch.current.model.version


def test_an_unchanged_channel_costs_one_look() -> None:
    channel = Channel(fake_model())

    async def act(watch: Watch) -> None:
        before = watch.current
        await watch.check(pause=30)
        assert watch.current is before

    _, metrics = watched(channel, act)

    assert (channel.looks, channel.brought) == (1, 1)
    assert 'repo_api_model_updates_total{outcome="unchanged"} 1.0' in metrics


def test_a_newer_release_takes_over() -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        channel.model = fake_model("2.1.0")
        await watch.check(pause=30)

    watch, metrics = watched(channel, act)

    assert version(watch) == "2.1.0"
    assert 'updates_total{outcome="swapped"} 1.0' in metrics
    assert 'serving{digest="sha256:2.1.0",version="2.1.0"} 1.0' in metrics
    assert 'serving{digest="sha256:2.0.0",version="2.0.0"} 0.0' in metrics


def test_a_request_under_way_keeps_the_model_it_began_with() -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        assert watch.current is not None
        waiting = asyncio.ensure_future(watch.current.answer(b'{"clicks": 1}', 0.0))
        await asyncio.sleep(0)
        channel.model = fake_model("2.1.0")
        await watch.check(pause=30)
        answer = await waiting
        assert isinstance(answer, bytes)
        assert json.loads(answer)["version"] == "2.0.0"

    watched(channel, act)


def test_an_older_release_is_refused() -> None:
    channel = Channel(fake_model("2.10.0"))

    async def act(watch: Watch) -> None:
        channel.model = fake_model("2.9.0")
        await watch.check(pause=30)

    watch, _ = watched(channel, act)

    assert version(watch) == "2.10.0"
    assert watch.problem is not None
    assert "expected version 2.10.0" in watch.problem


def test_a_registry_that_is_down_leaves_the_old_model_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    channel = Channel(fake_model())

    async def act(watch: Watch) -> None:
        channel.down = True
        await watch.check(pause=30)

    watch, metrics = watched(channel, act)

    assert version(watch) == "2.0.0"
    assert watch.problem == "the registry is down"
    assert "the registry is down; the model that serves stays" in caplog.text
    assert 'updates_total{outcome="failed"} 1.0' in metrics


def test_a_problem_is_forgotten_once_it_is_over() -> None:
    channel = Channel(fake_model())

    async def act(watch: Watch) -> None:
        channel.down = True
        await watch.check(pause=30)
        channel.down = False
        await watch.check(pause=30)

    watch, _ = watched(channel, act)

    assert watch.problem is None


def test_a_release_that_fails_is_tried_again_with_growing_pauses() -> None:
    channel = Channel(fake_model("2.0.0"))
    tries: list[int] = []

    async def act(watch: Watch) -> None:
        channel.model = fake_model("2.1.0")
        channel.broken = ContractError("does not fit")
        for _ in range(60):
            await watch.check(pause=0.05)
            tries.append(channel.brought - 1)
            await asyncio.sleep(0.01)

    watch, _ = watched(channel, act)

    # In 0.6 s and more: at 0, 0.05, 0.15, 0.35, 0.75 … but never at every look.
    assert 3 <= tries[-1] <= 8
    assert version(watch) == "2.0.0"
    assert watch.problem == "does not fit"


def test_another_release_is_tried_at_once() -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        channel.digest = "sha256:broken"
        channel.broken = ContractError("does not fit")
        await watch.check(pause=30)
        channel.digest = channel.broken = None
        channel.model = fake_model("2.1.1")
        await watch.check(pause=30)

    watch, _ = watched(channel, act)

    assert version(watch) == "2.1.1"


def test_who_asks_for_it_gets_a_try_now() -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        channel.digest = "sha256:broken"
        channel.broken = ContractError("does not fit")
        await watch.check(pause=30)
        await watch.check()

    watched(channel, act)

    assert channel.brought == 3


def test_a_bug_in_a_step_does_not_stop_the_service(caplog: pytest.LogCaptureFixture) -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        channel.model = fake_model("2.1.0")
        channel.broken = ZeroDivisionError("oops")
        await watch.check(pause=30)

    watch, _ = watched(channel, act)

    assert version(watch) == "2.0.0"
    assert "ZeroDivisionError" in caplog.text


def test_a_release_that_the_cache_stood_in_for_changes_nothing() -> None:
    channel = Channel(fake_model("2.0.0"))

    async def act(watch: Watch) -> None:
        before = watch.current
        channel.digest = "sha256:new, but the registry fails before it is fetched"
        await watch.check(pause=30)
        assert watch.current is before

    watched(channel, act)


def test_without_a_first_model_it_ends() -> None:
    channel = Channel(fake_model())
    channel.broken = ContractError("does not fit")

    async def act(_watch: Watch) -> None: ...

    with pytest.raises(ContractError):
        watched(channel, act)


def test_it_looks_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    channel = Channel(fake_model("2.0.0"))
    caplog.set_level(logging.INFO, "repo_api")

    async def main() -> str:
        watch = Watch(channel.latest, channel.bring, SCHEMA, Metrics())
        running = asyncio.create_task(watch.run(0.01, lambda _model: None))
        await until(lambda: channel.looks >= 3)
        channel.model = fake_model("2.1.0")
        await until(lambda: version(watch) == "2.1.0")
        running.cancel()
        return version(watch)

    assert asyncio.run(main()) == "2.1.0"
    assert "version 2.1.0 serves instead of 2.0.0" in caplog.text
