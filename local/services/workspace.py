"""The workspace server: Databricks' API on this machine. It runs the jobs, and ends them when it is stopped."""

from __future__ import annotations

import sys
from http.client import HTTPException

from local.home import Home
from local.services.java import java_home
from local.services.part import Launch, Part, base_environment, get, reason


def _prepare(home: Home) -> Launch:
    environment = base_environment(home) | home.secret_environment | home.spark_environment
    environment["JAVA_HOME"] = str(java_home())
    return Launch([sys.executable, "-m", "local.workspace"], environment, home.path / "workspace")


def _ready(home: Home, started_at: float) -> str | None:
    try:
        status, _ = get(home.port("workspace"), "/healthz")
    except (OSError, HTTPException) as error:
        return f"no answer ({reason(error)})"
    return None if status == 200 else f"/healthz answers {status}"


PART = Part(
    name="workspace",
    prepare=_prepare,
    ready=_ready,
    needs=("spark",),  # runs that it finds waiting start at once
    ports=("workspace",),
    adopts=True,
    stop_seconds=40,  # it ends its jobs first
    stop_group=False,
)
