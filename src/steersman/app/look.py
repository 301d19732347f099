"""What can be done with an installation without running it: look at it, play a recording, check it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from steersman.app.place import load_settings, program_name, require_auth
from steersman.kernel.clock import SystemClock
from steersman.kernel.errors import NotFound, SteersmanError
from steersman.kernel.ids import system_rng
from steersman.kinds.settings import Settings, state_folder
from steersman.store.api import StoreUnavailable

if TYPE_CHECKING:
    from steersman.observe.replay import ReplaySummary
    from steersman.state.ledger.verify import VerifyReport
    from steersman.store.sqlite.inspection import FileFacts


class StoreMissing(NotFound):
    """There is no store where the configuration says. `facts`: `store`."""

    code = "store_missing"
    title = "No store there"


def replay_file(recording: Path, out: Path | None) -> ReplaySummary:
    """`steersman replay`: play a recording into an empty bus; the dump goes to `out` where one is named.

    The file appears under its name only when it is whole. Raises `ReplayUnreadable`, `RecordingInvalid`,
    `RecordingCorrupt`, OSError.
    """
    from steersman.observe.replay import open_replay

    if out is None:
        return open_replay(recording)
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("wb") as file:
            summary = open_replay(recording, write=file.write)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return summary


async def verify_store(config: Path | None, env: Mapping[str, str]) -> VerifyReport:
    """`steersman store verify`: read every history and check its chain; changes nothing.

    The store must not be in use. Raises `StoreUnavailable` (`store_locked` where Steersman runs on it).
    """
    from steersman.state.ledger.verify import verify_store as verify
    from steersman.store.open import file_of, open_store

    settings = load_settings(config, env)
    url = settings.store_url(state_folder(env), config)
    file = file_of(url)
    if file is not None and not file.exists():
        raise StoreMissing(f"there is no store at {file}: nothing was ever kept there", store=str(file))
    async with open_store(url, clock=SystemClock(), rng=system_rng()) as store:
        return await verify(store)


class Installation(NamedTuple):
    """What can be seen of an installation without asking a server; `cli.machine` judges it.

    `problems` are those of the configuration, a line each; `drivers` those that can't be loaded, by name.
    `store` is the store's file (None: no file), `facts` what was found in it, `damage` why it can't be read.
    """

    program: str
    dashboard: bool
    problems: list[str]
    drivers: dict[str, str]
    folder: Path
    store: Path | None
    facts: FileFacts | None
    damage: str


def look_at_installation(config: Path | None, env: Mapping[str, str]) -> Installation:
    """For `steersman doctor`. Changes nothing: no folder is made, no migration run."""
    from steersman.api.plane import DASHBOARD_FOLDER
    from steersman.observe.registry import Drivers, make_sources
    from steersman.state.health.override import use_health_files
    from steersman.store.open import file_of

    drivers, settings, problems = Drivers(), Settings(), list[str]()
    try:
        settings = load_settings(config, env)
        use_health_files(settings.health)
        make_sources(settings.sources, clock=SystemClock(), rng=system_rng(), drivers=drivers)
        require_auth(settings)
    except SteersmanError as error:
        problems = error.detail.splitlines()
    folder = state_folder(env)
    store = file_of(settings.store_url(folder, config))
    facts, damage = _look_at_store(store)
    return Installation(
        program=program_name(),
        dashboard=(DASHBOARD_FOLDER / "index.html").is_file(),
        problems=problems,
        drivers={name: problem.detail for name, problem in drivers.problems().items()},
        folder=folder,
        store=store,
        facts=facts,
        damage=damage,
    )


def _look_at_store(path: Path | None) -> tuple[FileFacts | None, str]:
    if path is None or not path.exists():
        return None, ""
    from steersman.store.sqlite.inspection import inspect_file

    try:
        return inspect_file(path), ""
    except StoreUnavailable as error:
        return None, error.detail
