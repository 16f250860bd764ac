"""Runs real DAGs with `dag.test()` against a real workspace server whose jobs are tiny files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag

from include import settings as settings_module
from local.home import Home
from tests.dags.airflow_home import REPO
from tests.ports import free_port_base

# Stands for every job of spark_jobs/; writes down how it was called.
OBEDIENT = """
import json, pathlib, sys
with (pathlib.Path(__file__).parent / "calls.jsonl").open("a") as out:
    out.write(json.dumps([pathlib.Path(__file__).stem, *sys.argv[1:]]) + "\\n")
"""


@contextmanager
def workspace(folder: Path) -> Iterator[Home]:
    """A workspace server of its own; AIRFLOW_CONN_DATABRICKS_DEFAULT leads to it."""
    home = Home(folder / "home", free_port_base())
    log = (folder / "workspace.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "local.workspace"],
        env={**os.environ, **home.environment, **home.secret_environment},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    connection = {
        "conn_type": "databricks",
        "host": "127.0.0.1",
        "port": home.port("workspace"),
        "schema": "http",
        "password": home.secrets["workspace_token"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_DATABRICKS_DEFAULT", json.dumps(connection))
        try:
            while not _healthy(home):
                assert server.poll() is None, (folder / "workspace.log").read_text()
                time.sleep(0.1)
            yield home
        finally:
            server.terminate()
            server.wait(30)
            log.close()


def _healthy(home: Home) -> bool:
    try:
        return httpx.get(f"{home.workspace_url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


@contextmanager
def tiny_jobs(folder: Path, jobs: dict[str, str], **databricks: Any) -> Iterator[DagBag]:
    """The real DAGs, under local settings whose code root holds `jobs` (name -> source) and obedient ones for the rest.

    `databricks` overrides settings of that name, such as `deferrable`.
    """
    from include.pipeline import JOBS

    for name in JOBS:
        file = folder / "spark_jobs" / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(jobs.get(name, OBEDIENT))
    document = yaml.safe_load((REPO / "include" / "environments" / "local.yaml").read_text())
    document["databricks"] |= {"code_root": str(folder), **databricks}
    for own in document["dags"].values():
        own["retries"] = 0
    (folder / "local.yaml").write_text(yaml.safe_dump(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings_module, "ENVIRONMENTS", folder)
        patch.setenv("FITNESS_HOME", str(folder))
        settings_module.settings.cache_clear()
        yield DagBag(REPO / "dags")
    settings_module.settings.cache_clear()


def run_dag(bag: DagBag, dag_id: str, conf: dict[str, Any] | None = None) -> Any:
    """One run of a DAG in this process, without services; returns its DagRun."""
    dag = bag.dags[dag_id]
    dag.deadline = []  # dag.test() of Airflow 3.3.2 dies at the end of a run that has one
    return dag.test(run_conf=conf)


def states(run: Any) -> dict[str, str]:
    """Task -> state of a finished run."""
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


def store(bag: DagBag) -> None:
    """Write the DAGs into Airflow's database as the DAG processor does."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
