from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.review.callers import LOOP, Browser, Sender
from tests.review.house import Clock, House
from tests.review.postgres import PostgresServer, missing_programs, running_postgres
from tests.review.s3 import S3Server, running_s3
from tests.review.sendings import Sending, sending

from earmark_review.store.database import Database


@pytest.fixture(scope="session", autouse=True)
def _running_loop() -> Iterator[None]:
    thread = threading.Thread(target=LOOP.run_forever, name="applications", daemon=True)
    thread.start()
    yield
    LOOP.call_soon_threadsafe(LOOP.stop)
    thread.join()
    LOOP.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


EVERY_ENGINE = (
    "test_access",
    "test_audit",
    "test_audit_down",
    "test_concurrency",
    "test_export",
    "test_fleet",
    "test_intake",
    "test_leases",
    "test_lists",
    "test_overview",
    "test_readiness",
    "test_retention",
    "test_review_flow",
    "test_review_machine",
    "test_sealed",
    "test_sign_in",
    "test_single_sign_on",
    "test_wellness",
)
"""The behavioural suite: these modules run once on one machine (SQLite, a folder of clips), once past it (PostgreSQL, an S3 store)."""

ON_SQLITE = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
"""For a claim about SQLite's own file."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_told = any(mark.args[0] == "engine" for mark in metafunc.definition.iter_markers("parametrize"))
    if "engine" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in EVERY_ENGINE and not is_told:
        metafunc.parametrize("engine", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """Which engine a test's services keep their cases in; with PostgreSQL goes an S3 store for the clips."""
    return getattr(request, "param", "sqlite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real server, for as long as the tests run."""
    if missing := missing_programs():
        pytest.skip(f"PostgreSQL is not installed ({missing}); Debian's package is postgresql")
    with running_postgres() as server:
        database = Database(server.create("fresh"))
        database.migrate()
        database.close()
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server that speaks S3, for as long as the tests run; `AWS_*` say where it is."""
    with running_s3() as server:
        yield server


@pytest.fixture
def database_url(engine: str, request: pytest.FixtureRequest, fresh_database: Path, tmp_path: Path) -> Callable[[], str]:
    """Makes databases of the current schema on the test's engine, and gives their addresses."""
    made = count()

    def make() -> str:
        if engine == "postgresql":
            return request.getfixturevalue("postgres").create(template="fresh")
        path = tmp_path / f"review-{next(made)}.db"
        shutil.copy(fresh_database, path)
        return f"sqlite:///{path}"

    return make


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without rows, to copy: the migrations have tests of their own."""
    path = tmp_path_factory.mktemp("fresh") / "review.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def open_house(
    tmp_path: Path, clock: Clock, engine: str, fresh_database: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., House]]:
    opened: list[House] = []

    def make(**knobs: object) -> House:
        data = tmp_path / f"data-{len(opened)}"
        data.mkdir()
        if engine == "postgresql":
            database = request.getfixturevalue("postgres").create(template="fresh")
            knobs = {"database": database, "blobs": f"s3://{request.getfixturevalue('s3').bucket()}", **knobs}
        else:
            shutil.copy(fresh_database, data)
        opened.append(House(data, clock, engine, **knobs))
        return opened[-1]

    yield make
    for house in opened:
        house.service.close()
        if engine == "postgresql":
            request.getfixturevalue("postgres").drop(house.knobs["database"])


@pytest.fixture
def house(open_house: Callable[..., House]) -> House:
    return open_house()


@pytest.fixture
def sender(house: House) -> Sender:
    return house.device()


@pytest.fixture
def ada(house: House) -> Browser:
    return house.user("ada")


@pytest.fixture
def bea(house: House) -> Browser:
    return house.user("bea")


@pytest.fixture
def make_sending() -> Callable[..., Sending]:
    return sending


@pytest.fixture
def one_case(house: House, sender: Sender, ada: Browser) -> str:
    """The id of a case that is ready."""
    sender.send(sending(masked=True))
    [case_id] = ada.case_ids()
    return case_id
