from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.dags.airflow_home import REPO, isolate

isolate()

from airflow.dag_processing.dagbag import DagBag  # noqa: E402

from include.settings import settings  # noqa: E402
from local.home import Home  # noqa: E402
from tests.dags.running import workspace  # noqa: E402


@contextmanager
def environment(name: str) -> Iterator[None]:
    """The settings of an environment, for the time of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FITNESS_ENV", name)
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture(scope="session", params=["local", "dev", "prod"])
def dagbag(request: pytest.FixtureRequest) -> DagBag:
    """Every DAG, parsed under the settings of one environment."""
    with environment(request.param):
        bag = DagBag(REPO / "dags")
    bag.environment = request.param
    return bag


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A workspace server that runs, and to which `databricks_default` leads."""
    with workspace(tmp_path_factory.mktemp("workspace")) as home:
        yield home


@pytest.fixture(scope="session")
def metadata() -> None:
    """Airflow's own tables, for tests that run tasks."""
    from airflow.utils.db import initdb

    initdb()
