"""Dynamic value references in parameters: `{{job.run_id}}`, `{{tasks.silver.result_state}}`, ... (pure).

Names follow https://docs.databricks.com/jobs/dynamic-value-references.html. Text in braces that starts with none of
Databricks' namespaces stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

REFERENCE = re.compile(r"\{\{\s*([A-Za-z_][\w.\-]*)\s*\}\}")

_LEGACY = {
    "job_id": "job.id",
    "run_id": "task.run_id",
    "parent_run_id": "job.run_id",
    "task_key": "task.name",
    "start_time": "job.start_time.timestamp_ms",
    "start_date": "job.start_time.iso_date",
    "task_retry_count": "task.retry_count",
}
_START_TIME = {
    "iso_datetime": lambda at: at.strftime("%Y-%m-%dT%H:%M:%S"),
    "iso_date": lambda at: at.strftime("%Y-%m-%d"),
    "iso_weekday": lambda at: str(at.isoweekday()),
    "is_weekday": lambda at: str(at.isoweekday() < 6).lower(),
    "timestamp_ms": lambda at: str(round(at.timestamp() * 1000)),
    "year": lambda at: str(at.year),
    "month": lambda at: str(at.month),
    "day": lambda at: str(at.day),
    "hour": lambda at: str(at.hour),
    "minute": lambda at: str(at.minute),
    "second": lambda at: str(at.second),
}
_SIMPLE = {
    "job.id",
    "job.name",
    "job.run_id",
    "job.repair_count",
    "job.trigger.type",
    "task.name",
    "task.run_id",
    "task.execution_count",
    "task.retry_count",
    "workspace.id",
    "workspace.url",
}
_TASK_FIELDS = ("run_id", "result_state", "execution_count")


def start_time_values(start_ms: int) -> dict[str, str]:
    """Every `job.start_time.*` reference of a run that started at `start_ms` (UTC)."""
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return {f"job.start_time.{name}": render(at) for name, render in _START_TIME.items()}


def complaint(text: str, task_keys: set[str], parameters: set[str]) -> str | None:
    """What is wrong with the references in `text`, as a sentence, or None."""
    for name in REFERENCE.findall(text):
        known = _LEGACY.get(name, name)
        first, _, rest = known.partition(".")
        if first not in {"job", "task", "tasks", "workspace"} or not rest:
            continue
        if known in _SIMPLE or known.removeprefix("job.start_time.") in _START_TIME:
            continue
        if known.startswith("job.parameters."):
            if known.removeprefix("job.parameters.") in parameters:
                continue
            return f"{{{{{name}}}}} names a job parameter that the job does not have."
        if first == "tasks":
            key, _, wanted = rest.rpartition(".")
            if key not in task_keys:
                return f"{{{{{name}}}}} names a task that the job does not have."
            if wanted in _TASK_FIELDS:
                continue
        return f"{{{{{name}}}}} is not a dynamic value reference that this workspace knows."
    return None


def substitute(text: str, values: Mapping[str, str]) -> str:
    """`text` with every reference that `values` knows replaced; values are not looked into again."""

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return values.get(_LEGACY.get(name, name), match.group(0))

    return REFERENCE.sub(replace, text)
