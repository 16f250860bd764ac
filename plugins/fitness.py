"""What Airflow itself loads: without this plugin the scheduler cannot read the DAGs' deadlines."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from include.deadlines import RunDue


class FitnessPlugin(AirflowPlugin):
    name = "fitness"
    deadline_references = [RunDue]  # noqa: RUF012  (Airflow reads it from the class)
