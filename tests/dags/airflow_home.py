"""An Airflow of the tests' own: a temporary home with SQLite. Must be called before Airflow is imported first."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent

# What the settings of the environments refer to; none of it is reached.
DEPLOYMENT = {
    "FITNESS_VERSION": "9.9.9",
    "FITNESS_USAGE_POLICY_ID": "policy-1",
    "FITNESS_KAFKA_BOOTSTRAP": "kafka.example:9092",
    "FITNESS_JDBC_URL": "jdbc:example://sql",
    "FITNESS_SQL_USER": "fitness",
    "FITNESS_CONNECT_URL": "http://connect.example:8083",
    "FITNESS_HOME": "/fitness-home",
}


@cache
def isolate() -> Path:
    """Point this process at a fresh AIRFLOW_HOME, which goes when the process goes."""
    if "airflow" in sys.modules:
        raise RuntimeError("Airflow was imported before its home was set.")
    home = Path(tempfile.mkdtemp(prefix="fitness-airflow-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        {
            **DEPLOYMENT,
            "FITNESS_ENV": "local",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPO / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        }
    )
    return home
