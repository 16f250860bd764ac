"""Requests of the Jobs API, validated. What the server does not act on (tags, schedules, notifications, ...) is kept
as it came; numbers may be given as strings, as Airflow's operators do.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from local.workspace import references, states
from local.workspace.errors import from_validation

MAX_PARAMETERS_BYTES = 10_000  # Databricks' limit for python_params of run-now and repair

TaskKey = Annotated[str, StringConstraints(pattern=r"^[\w\-]{1,100}$")]
Token = Annotated[
    Annotated[str, StringConstraints(max_length=64)] | None,
    AfterValidator(lambda token: token or None),  # an empty one is none
]
Int64 = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]  # what SQLite keeps
NonNegative = Annotated[Int64, Ge(0)]


def is_int64(text: str) -> bool:
    """Whether a text is a number that is not negative and fits."""
    return text.isdecimal() and len(text) < 20 and int(text) < 2**63


class Payload(BaseModel):
    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)

    def kept(self) -> dict[str, Any]:
        """What was given, with the types of the declared fields made right."""
        return self.model_dump(exclude_unset=True, mode="json")


class SparkPythonTask(Payload):
    python_file: Annotated[str, StringConstraints(min_length=1)]
    parameters: list[str] = []
    source: Literal["WORKSPACE"] | None = None


class Dependency(Payload):
    task_key: TaskKey


class Cluster(Payload):
    spark_conf: dict[str, str] = {}
    spark_env_vars: dict[str, str] = {}


class Task(Payload):
    task_key: TaskKey
    depends_on: list[Dependency] = []
    run_if: states.RunIf = states.RunIf.ALL_SUCCESS
    spark_python_task: SparkPythonTask | None = None
    environment_key: str | None = None
    job_cluster_key: str | None = None
    existing_cluster_id: str | None = None
    new_cluster: Cluster | None = None
    timeout_seconds: NonNegative = 0
    max_retries: Annotated[Int64, Ge(-1)] = 0
    min_retry_interval_millis: NonNegative = 0
    retry_on_timeout: bool = False
    disabled: bool = False

    @model_validator(mode="after")
    def one_kind_and_one_compute(self) -> Self:
        if self.spark_python_task is None:
            others = [name for name in (self.model_extra or {}) if name.endswith("_task")]
            wanted = f"not {others[0]}" if others else "and this one has none"
            raise ValueError(f"task {self.task_key}: this workspace runs spark_python_task, {wanted}.")
        computes = [self.environment_key, self.job_cluster_key, self.existing_cluster_id, self.new_cluster]
        if sum(compute is not None for compute in computes) > 1:
            raise ValueError(
                f"task {self.task_key}: give one of environment_key, new_cluster, job_cluster_key, existing_cluster_id."
            )
        return self


class JobCluster(Payload):
    job_cluster_key: str
    new_cluster: Cluster


class Environment(Payload):
    environment_key: str


class Queue(Payload):
    enabled: bool = True


class Parameter(Payload):
    name: Annotated[str, StringConstraints(pattern=r"^[\w\-.]+$")]
    default: str = ""


class Continuous(Payload):
    pause_status: Literal["PAUSED", "UNPAUSED"] = "UNPAUSED"


class Tasks(Payload):
    """What a job and a submitted run have in common."""

    tasks: Annotated[list[Task], Field(max_length=1000)] = []
    job_clusters: list[JobCluster] = []
    environments: list[Environment] = []
    parameters: list[Parameter] = []
    timeout_seconds: NonNegative = 0
    queue: Queue | None = None

    @model_validator(mode="after")
    def tasks_fit_together(self) -> Self:
        keys = [task.task_key for task in self.tasks]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"task_key {min(twice)} is given twice.")
        environments = {environment.environment_key for environment in self.environments}
        clusters = {cluster.job_cluster_key for cluster in self.job_clusters}
        names = {parameter.name for parameter in self.parameters}
        for task in self.tasks:
            for dependency in task.depends_on:
                if dependency.task_key not in keys:
                    raise ValueError(f"task {task.task_key} depends on {dependency.task_key}, which does not exist.")
            if task.environment_key is not None and task.environment_key not in environments:
                raise ValueError(f"task {task.task_key}: environments has no {task.environment_key!r}.")
            if task.job_cluster_key is not None and task.job_cluster_key not in clusters:
                raise ValueError(f"task {task.task_key}: job_clusters has no {task.job_cluster_key!r}.")
            texts = task.spark_python_task.parameters if task.spark_python_task else []
            for text in texts:
                if wrong := references.complaint(text, set(keys), names):
                    raise ValueError(f"task {task.task_key}: {wrong}")
        if circle := states.cycle([task.kept() for task in self.tasks]):
            raise ValueError(f"the tasks {', '.join(circle)} wait for each other.")
        return self


class JobSettings(Tasks):
    name: Annotated[str, StringConstraints(max_length=4096)] = "Untitled"
    max_concurrent_runs: Annotated[int, Field(ge=0, le=1000)] = 1
    continuous: Continuous | None = None


class Submit(Tasks):
    run_name: str = "Untitled"
    idempotency_token: Token = None
    tasks: Annotated[list[Task], Field(min_length=1, max_length=100)]


class Overrides(Payload):
    """What run-now and repair may change for one run."""

    python_params: list[str] | None = None
    job_parameters: dict[str, str] = {}

    @model_validator(mode="after")
    def small_enough(self) -> Self:
        size = len(json.dumps({"python_params": self.python_params}).encode())
        if self.python_params is not None and size > MAX_PARAMETERS_BYTES:
            raise ValueError(f"python_params has {size} bytes of JSON; {MAX_PARAMETERS_BYTES} are allowed.")
        return self


class RunNow(Overrides):
    job_id: Int64
    idempotency_token: Token = None
    only: list[str] = []
    queue: Queue | None = None


class RepairRun(Overrides):
    run_id: Int64
    rerun_tasks: list[TaskKey] = []
    rerun_all_failed_tasks: bool = False
    rerun_dependent_tasks: bool = False
    latest_repair_id: Int64 | None = None

    @model_validator(mode="after")
    def says_what_to_run(self) -> Self:
        if bool(self.rerun_tasks) == self.rerun_all_failed_tasks:
            raise ValueError("give either rerun_tasks or rerun_all_failed_tasks.")
        return self


class UpdateJob(Payload):
    job_id: Int64
    new_settings: dict[str, Any] = {}
    fields_to_remove: list[str] = []


class ResetJob(Payload):
    job_id: Int64
    new_settings: JobSettings


class JobId(Payload):
    job_id: Int64


class RunId(Payload):
    run_id: Int64


class GetRun(RunId):
    include_history: bool = False
    include_resolved_values: bool = False
    page_token: str = ""


class CancelAll(Payload):
    job_id: Int64 | None = None
    all_queued_runs: bool = False


class ListJobs(Payload):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: NonNegative = 0
    page_token: str = ""
    name: str = ""
    expand_tasks: bool = False


class ListRuns(Payload):
    limit: Annotated[int, Field(ge=0, le=25)] = 20
    offset: NonNegative = 0
    page_token: str = ""
    job_id: Int64 | None = None
    active_only: bool = False
    completed_only: bool = False
    expand_tasks: bool = False
    run_type: Literal["JOB_RUN", "SUBMIT_RUN", "WORKFLOW_RUN"] | None = None
    start_time_from: NonNegative = 0
    start_time_to: NonNegative = 0

    @model_validator(mode="after")
    def not_both(self) -> Self:
        if self.active_only and self.completed_only:
            raise ValueError("active_only and completed_only cannot both be true.")
        return self


def parse[P: Payload](model: type[P], raw: dict[str, Any]) -> P:
    """`raw` as `model`; raises a 400 with a sentence."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise from_validation(error) from None


LEGACY_TASK_FIELDS = ("spark_python_task", "new_cluster", "existing_cluster_id", "environment_key", "libraries")


def with_tasks(raw: dict[str, Any]) -> dict[str, Any]:
    """A submitted run of the old single-task shape, made multi-task; others as they are."""
    if raw.get("tasks") or not any(name in raw for name in LEGACY_TASK_FIELDS):
        return raw
    task = {name: raw[name] for name in LEGACY_TASK_FIELDS if name in raw}
    rest = {name: value for name, value in raw.items() if name not in LEGACY_TASK_FIELDS}
    key = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(raw.get("run_name") or "main"))[:100]
    return {**rest, "tasks": [{"task_key": key, **task}]}


def resolved_job_parameters(settings: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """Job parameters of one run: the defaults, then what was given (which may add names, as on Databricks)."""
    return {p["name"]: p.get("default", "") for p in settings.get("parameters", [])} | given


def cluster_of(settings: dict[str, Any], task: dict[str, Any]) -> dict[str, Any] | None:
    """The `new_cluster` that a task runs on, or None for serverless."""
    if "job_cluster_key" in task:
        clusters = settings.get("job_clusters", [])
        return next(c["new_cluster"] for c in clusters if c["job_cluster_key"] == task["job_cluster_key"])
    return task.get("new_cluster")
