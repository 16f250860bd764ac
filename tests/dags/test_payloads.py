"""What is sent to the workspace: Databricks' own types accept it, and a change of it is seen in a diff.

`FITNESS_UPDATE_GOLDEN=1 pytest tests/dags/test_payloads.py` writes the golden files anew.
"""

import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from databricks.sdk.service.compute import ClusterSpec
from databricks.sdk.service.jobs import JobEnvironment, SubmitTask

from include.payloads import batch_arguments, batch_run, stream_cluster
from include.pipeline import JOBS, Needs
from include.settings import load
from tests.dags.airflow_home import DEPLOYMENT

GOLDEN = Path(__file__).parent / "golden"
ENVIRONMENTS = ["local", "dev", "prod"]


def payloads(name: str) -> dict:
    environment = load(name, DEPLOYMENT)
    batch = {job.name: batch_run(environment, environment.dag(job.layer), job, "RUN") for job in JOBS.values()}
    return {**batch, "stream_cluster": stream_cluster(environment)}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_payloads_are_as_agreed(name):
    found = json.dumps(payloads(name), indent=1) + "\n"
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("FITNESS_UPDATE_GOLDEN"):
        golden.write_text(found)
    assert found == golden.read_text()


def lost(sent, understood, path="") -> list[str]:
    """Where what Databricks' types understood differs from what was sent."""
    if isinstance(sent, dict):
        understood = understood if isinstance(understood, dict) else {}
        return [line for key in sent for line in lost(sent[key], understood.get(key), f"{path}.{key}")]
    if isinstance(sent, list):
        pairs = zip(sent, understood or [None] * len(sent), strict=True)
        return [line for index, pair in enumerate(pairs) for line in lost(*pair, f"{path}[{index}]")]
    return [] if sent == understood else [f"{path}: sent {sent!r}, understood {understood!r}"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_databricks_types_understand_every_field(name):
    sent = payloads(name)
    cluster = sent.pop("stream_cluster")
    assert lost(cluster, ClusterSpec.from_dict(cluster).as_dict()) == []
    for payload in sent.values():
        [task], [environment] = payload["tasks"], payload["environments"]
        assert lost(task, SubmitTask.from_dict(task).as_dict()) == []
        assert lost(environment, JobEnvironment.from_dict(environment).as_dict()) == []
        assert task["environment_key"] == environment["environment_key"]


def test_a_misspelt_field_would_be_seen():
    sent = {"task_key": "users", "enviroment_key": "default"}
    assert lost(sent, SubmitTask.from_dict(sent).as_dict()) == [
        ".enviroment_key: sent 'default', understood None",
    ]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_jobs_are_told_only_what_they_need(name):
    environment = load(name, DEPLOYMENT)
    for job in JOBS.values():
        arguments = batch_arguments(environment, job, "RUN")
        assert ("--jdbc-url" in arguments) == (Needs.SQL in job.needs)
        assert ("--bootstrap-servers" in arguments) == (Needs.KAFKA in job.needs)
        assert ("--storage-root" in arguments) == (name == "local")
        assert not any("password" in argument.lower() for argument in arguments)


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.name)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_job_understands_what_it_is_told(name, job, monkeypatch):
    """Up to where it asks for Spark; an argument that it does not know would have ended it before."""

    class Understood(Exception):
        pass

    def no_spark():
        raise Understood

    monkeypatch.setattr("spark_jobs.job.SparkSession", SimpleNamespace(getActiveSession=no_spark))
    module = importlib.import_module(f"spark_jobs.{job.name}")
    for rebuild in (["--full"], ["--keys=-12,7"], ["--from-date", "2026-01-01", "--to-date", "2026-01-02"], []):
        with pytest.raises(Understood):
            module.main([*batch_arguments(load(name, DEPLOYMENT), job, "RUN"), *rebuild])
