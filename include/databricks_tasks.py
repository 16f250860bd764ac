"""The one way in which a DAG runs a Spark job: `spark_job("silver.users")`.

What it guards against are the ways in which such tasks usually go wrong: a worker that dies and submits twice, a run
that goes on when its task was cancelled, an error that can only be found in another UI, a task that fails because the
workspace throttled its polling.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from airflow.exceptions import AirflowException
from airflow.providers.databricks.hooks.databricks import RunState
from airflow.providers.databricks.operators.databricks import (
    XCOM_RUN_ID_KEY,
    XCOM_RUN_PAGE_URL_KEY,
    DatabricksJobRunLink,
    DatabricksSubmitRunOperator,
)
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk import Context, chain
from airflow.sdk.types import RuntimeTaskInstanceProtocol

from include.assets import table
from include.payloads import batch_run
from include.pipeline import JOBS, edges, jobs_of
from include.rebuild import asked_of
from include.settings import settings

# What a job writes into its outcome row as the one who ran it; rendered for each try.
RUN_ID = "{{ ti.dag_id }}/{{ ti.run_id }}/{{ ti.task_id }}/{{ ti.try_number }}"

# Who gets the next free slot of the pool: what is under way reaches its reader before the next of it is fetched, and
# what only looks at tables or tidies them (1, as everything else) waits.
PRIORITY = {"gold": 4, "silver": 3, "bronze": 2}
AT_ONCE = 5  # while somebody waits


class SparkJobOperator(DatabricksSubmitRunOperator):
    """Submits one job and follows its run to the end, in the triggerer (`deferrable`) or in the task.

    The id of the run is kept in Airflow's task state, which tries share:
    - a try whose predecessor died (worker lost, polling given up) follows the run that is still going;
    - a try after a run that ended submits a new one, also when a person clears a task that had succeeded
      (the provider's own `durable` mode would find the old success and run nothing).
    The idempotency token names the run before this one rather than the try, so that a worker which dies between
    submitting and remembering does not submit twice either.
    """

    external_id_key = "databricks_run_id"
    concluded_key = "databricks_concluded_run_id"

    def __init__(self, *, job: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job

    def execute(self, context: Context) -> None:
        memory = context["task_state_store"]
        run_id = memory.get(self.external_id_key)
        if run_id is not None and self.is_job_active(self.get_job_status(run_id, context)):
            self.log.info("Following run %s, which an earlier try submitted and left going.", run_id)
        else:
            if run_id is not None:
                memory.set(self.concluded_key, run_id)
            run_id = self.submit_job(context)
            memory.set(self.external_id_key, run_id)
        self.poll_until_complete(run_id, context)

    def _prepare_submit_json(self, context: Context) -> dict[str, Any]:
        payload = super()._prepare_submit_json(context)
        payload["idempotency_token"] = idempotency_token(
            context["ti"], context["task_state_store"].get(self.concluded_key)
        )
        if rebuild := asked_of(self.job, context["params"]):
            self.log.warning("Rebuilding %s: %s", self.job, " ".join(rebuild.arguments()))
            payload["tasks"][0]["spark_python_task"]["parameters"] += rebuild.arguments()
        return payload

    def poll_until_complete(self, external_id: Any, context: Context) -> None:
        self.run_id = int(external_id)
        page = self._hook.get_run_page_url(self.run_id)
        self.log.info("Run %s: %s", self.run_id, page)
        context["ti"].xcom_push(key=XCOM_RUN_ID_KEY, value=self.run_id)
        context["ti"].xcom_push(key=XCOM_RUN_PAGE_URL_KEY, value=page)
        # Airflow stores links when a task ends; a run that takes an hour wants its link now.
        context["ti"].xcom_push(key=DatabricksJobRunLink().xcom_key, value=page)

        if self.deferrable and not self._hook.get_run_state(self.run_id).is_terminal:
            self.defer(
                trigger=DatabricksExecutionTrigger(
                    run_id=self.run_id,
                    databricks_conn_id=self.databricks_conn_id,
                    polling_period_seconds=self.polling_period_seconds,
                    retry_limit=self.databricks_retry_limit,
                    retry_delay=self.databricks_retry_delay,
                    run_page_url=page,
                    caller=type(self).__name__,
                ),
                method_name="execute_complete",
            )
        while not self._hook.get_run_state(self.run_id).is_terminal:
            time.sleep(self.polling_period_seconds)
        self._conclude(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> None:
        """Back from the triggerer."""
        self.run_id = int(event["run_id"])
        self._conclude(context)

    def _conclude(self, context: Context) -> None:
        """End as the run ended. A failure says here what Python said there."""
        run = self._hook.get_run(self.run_id)
        state = RunState(**run["state"])
        if state.is_successful:
            self.log.info("Run %s of %s succeeded.", self.run_id, self.job)
            return
        error = state.state_message
        for task in run.get("tasks", []):
            output = self._hook.get_run_output(task["run_id"])
            error = output.get("error") or error
            if trace := output.get("error_trace"):
                self.log.error("%s failed on Databricks:\n%s", task["task_key"], trace)
        raise AirflowException(
            f"{self.job}: run {self.run_id} ended as {state.result_state or state.life_cycle_state}: {error}\n"
            f"See {run['run_page_url']}"
        )


def idempotency_token(ti: RuntimeTaskInstanceProtocol, concluded_run_id: Any) -> str:
    """The same for the same intention: this task of this DAG run, after the run that ended last (64 characters)."""
    intention = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}/after {concluded_run_id}"
    return hashlib.sha256(intention.encode()).hexdigest()


def spark_job(name: str, *arguments: str, announces: bool = True, priority: int | None = None) -> SparkJobOperator:
    """The task that runs a batch job of `include/pipeline.py`; announces the job's table when it succeeded.

    `arguments`: what the job is told besides; templates are rendered. `announces`: False for what leaves the table be.
    `priority`: another one than its layer's.
    """
    job, environment = JOBS[name], settings()
    workspace = environment.databricks
    payload = batch_run(environment, environment.dag(job.layer), job, RUN_ID)
    payload["tasks"][0]["spark_python_task"]["parameters"] += arguments
    return SparkJobOperator(
        task_id=job.table,
        job=name,
        json=payload,
        databricks_conn_id=workspace.connection_id,
        polling_period_seconds=workspace.polling_seconds,
        databricks_retry_limit=workspace.retry_limit,
        databricks_retry_delay=workspace.retry_delay_seconds,
        deferrable=workspace.deferrable,
        pool=workspace.pool,
        priority_weight=priority or PRIORITY.get(job.layer, 1),
        weight_rule="absolute",
        outlets=[table(name)] if announces else [],
    )


def layer_jobs(layer: str) -> list[SparkJobOperator]:
    """The tasks of a layer with the edges between them; returns those on which no other task of the layer waits."""
    tasks = {job.name: spark_job(job.name) for job in jobs_of(layer)}
    for upstream, downstream in edges(layer):
        chain(tasks[upstream], tasks[downstream])
    return [task for task in tasks.values() if not task.downstream_list]
