"""What Airflow itself loads: without this plugin the scheduler cannot read the DAGs' deadlines and timetables."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from include.deadlines import RunDue
from include.timetables import BackfillOnly


class FitnessPlugin(AirflowPlugin):
    name = "fitness"
    deadline_references = [RunDue]  # noqa: RUF012  (Airflow reads it from the class)
    timetables = [BackfillOnly]  # noqa: RUF012
