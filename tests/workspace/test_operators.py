"""Operators of the Databricks provider, unchanged, against the real server (the DAG tests run whole DAGs)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.workspace.server import Server

# In a process of its own: Airflow must not be imported into the other tests, which have no Airflow home.
SCRIPT = """
import logging, sys
from airflow.providers.databricks.operators.databricks import DatabricksRunNowOperator, DatabricksSubmitRunOperator
logging.basicConfig(level=logging.INFO, stream=sys.stdout, force=True)
common = dict(polling_period_seconds=1, do_xcom_push=False)
say = {"python_file": "dbfs:/say.py", "parameters": [1, "b"]}
submit = dict(run_name="users", timeout_seconds=600, spark_python_task=say)
DatabricksSubmitRunOperator(task_id="good", json={**submit, "new_cluster": {"num_workers": 0}}, **common).execute({})
print("GOOD")
for name, operator in {
    "SUBMIT": DatabricksSubmitRunOperator(
        task_id="bad", json={"run_name": "bad", "spark_python_task": {"python_file": "dbfs:/fail.py"}}, **common),
    "RUN NOW": DatabricksRunNowOperator(task_id="now", job_name="to repair", repair_run=True, **common),
}.items():
    try:
        operator.execute({})
    except Exception as error:
        print(name, type(error).__name__, str(error).replace(chr(10), " "))
"""


def test_operators_run_fail_and_repair(server: Server, tmp_path: Path) -> None:
    job_id = server.create(server.task("once", str(tmp_path / "mark")), name="to repair")
    port = server.home.port("workspace")
    connection = (
        f'{{"conn_type":"databricks","host":"127.0.0.1","port":{port},"schema":"http","password":"{server.token}"}}'
    )
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_DATABRICKS_DEFAULT": connection,
    }
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert "GOOD" in ran.stdout, ran.stdout + ran.stderr
    assert "ValueError: no <b>luck</b>" in ran.stdout.partition("SUBMIT")[2]
    (run,) = server.client.jobs.list_runs(job_id=job_id)
    assert server.state(run.run_id or 0) == ("TERMINATED", "SUCCESS")  # the operator repaired it
    assert len(server.run(run.run_id or 0).repair_history or []) == 2
