"""All supervised parts of a stack, and the order in which they stop. Who needs whom stands in each."""

from __future__ import annotations

from local.services import airflow, connect, kafka, postgres, simulator, spark, workspace
from local.services.part import Part

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        postgres.PART,
        kafka.PART,
        connect.PART,
        spark.PART,
        workspace.PART,
        *airflow.PARTS,
        simulator.PART,
    )
}

# First what makes data and work, then what does the work, then what carries it, and the databases' logs close last.
STOP_ORDER = (
    ("simulator", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"),
    ("airflow_api", "workspace"),
    ("connect",),
    ("kafka", "spark"),
    ("postgres",),
)
