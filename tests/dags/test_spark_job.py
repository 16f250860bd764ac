"""One task and the runs it submits: what becomes of them when workers die, tries repeat and people intervene."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.exceptions import AirflowException
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger
from airflow.sdk.exceptions import TaskDeferred

from include.databricks_tasks import SparkJobOperator, idempotency_token, spark_job
from tests.dags.running import OBEDIENT, tiny_jobs

SLOW = 'import pathlib, time\npathlib.Path(__file__).with_suffix(".began").touch()\ntime.sleep(60)\n'
FAILING = 'raise ValueError("no such member")\n'


class WorkerDied(BaseException):
    """Stands for kill -9."""


class Memory(dict):
    """Airflow's task state: the same for all tries of a task in one run of its DAG."""

    def __init__(self, dag_run: str | None = None) -> None:
        super().__init__()
        self.dag_run = dag_run or uuid4().hex

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class ForgetfulMemory(Memory):
    def set(self, key: str, value: Any) -> None:
        raise WorkerDied


class Try:
    """One try of the task users, as Airflow would execute it."""

    def __init__(self, memory: Memory, number: int, **settings: Any) -> None:
        self.xcoms: dict[str, Any] = {}
        ti = SimpleNamespace(
            dag_id="silver",
            run_id=memory.dag_run,
            task_id="users",
            map_index=-1,
            try_number=number,
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )
        self.context = {"ti": ti, "task_state_store": memory, "params": {}}
        self.operator: SparkJobOperator = spark_job("silver.users")
        for name, value in settings.items():
            setattr(self.operator, name, value)

    def execute(self) -> int:
        """Runs to the end and returns the id of the run."""
        self.operator.execute(self.context)
        return self.xcoms["run_id"]

    def die_while_polling(self) -> int:
        def die(*_: Any) -> None:
            raise WorkerDied

        self.operator.poll_until_complete = die
        with pytest.raises(WorkerDied):
            self.operator.execute(self.context)
        return self.operator.run_id


@pytest.fixture
def job(home, tmp_path):
    """A function that says what the file of silver.users holds from now on."""
    file = tmp_path / "spark_jobs" / "silver" / "users.py"
    with tiny_jobs(tmp_path, {}):
        yield file.write_text


@pytest.fixture
def wait_until_it_works(tmp_path):
    """A function that returns when the slow job is at work."""

    def wait() -> None:
        while not (tmp_path / "spark_jobs" / "silver" / "users.began").exists():
            time.sleep(0.1)

    return wait


@pytest.fixture
def hook(home) -> DatabricksHook:
    return DatabricksHook("databricks_default")


def test_a_retry_after_a_failure_is_a_new_run(job):
    memory = Memory()
    job(FAILING)
    first = Try(memory, 1)
    with pytest.raises(AirflowException, match="ValueError: no such member"):
        first.execute()
    job(OBEDIENT)
    assert Try(memory, 2).execute() != first.xcoms["run_id"]


def test_the_error_of_a_failed_run_names_its_page(job):
    job(FAILING)
    failed = Try(Memory(), 1)
    with pytest.raises(AirflowException, match="See http:") as caught:
        failed.execute()
    assert failed.xcoms["run_page_url"] in str(caught.value)


def test_a_task_that_is_cleared_after_its_success_runs_again(job):
    memory = Memory()
    job(OBEDIENT)
    assert Try(memory, 1).execute() != Try(memory, 2).execute()


def test_the_try_after_a_dead_worker_follows_the_run_that_goes_on(job):
    memory = Memory()
    job("import time\ntime.sleep(2)\n")
    abandoned = Try(memory, 1).die_while_polling()
    assert Try(memory, 2).execute() == abandoned


def test_a_worker_that_dies_before_it_could_remember_does_not_submit_twice(job):
    job(OBEDIENT)
    dying = Try(ForgetfulMemory("night"), 1)
    with pytest.raises(WorkerDied):
        dying.operator.execute(dying.context)
    assert Try(Memory("night"), 2).execute() == dying.operator.run_id


def test_killing_the_task_cancels_its_run(job, hook, wait_until_it_works):
    job(SLOW)
    killed = Try(Memory(), 1)
    run_id = killed.die_while_polling()
    wait_until_it_works()
    killed.operator.on_kill()
    assert wait(hook, run_id) == "CANCELED"


def test_killing_the_task_while_it_is_deferred_cancels_its_run(job, hook, wait_until_it_works):
    job(SLOW)
    with pytest.raises(TaskDeferred) as deferred:
        Try(Memory(), 1, deferrable=True).execute()
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatabricksExecutionTrigger)
    wait_until_it_works()
    asyncio.run(trigger.on_kill())
    assert wait(hook, trigger.run_id) == "CANCELED"


def test_a_run_that_takes_too_long_is_ended_by_the_platform(job, hook):
    job(SLOW)
    late = Try(Memory(), 1)
    late.operator.json["timeout_seconds"] = late.operator.json["tasks"][0]["timeout_seconds"] = 1
    with pytest.raises(AirflowException, match="TIMEDOUT"):
        late.execute()


def test_the_link_is_there_while_the_job_runs(job, hook):
    job(SLOW)
    deferred = Try(Memory(), 1, deferrable=True)
    with pytest.raises(TaskDeferred):
        deferred.execute()
    assert deferred.xcoms["_link_DatabricksJobRunLink"].endswith(f"/runs/{deferred.xcoms['run_id']}")
    hook.cancel_run(deferred.xcoms["run_id"])


def test_tokens_tell_intentions_apart():
    ti = SimpleNamespace(dag_id="silver", run_id="r1", task_id="users", map_index=-1)
    others = [SimpleNamespace(**{**vars(ti), field: "2"}) for field in vars(ti)]
    tokens = {idempotency_token(ti, None), idempotency_token(ti, 17), *(idempotency_token(o, None) for o in others)}
    assert len(tokens) == 6
    assert {len(token) for token in tokens} == {64}, "Databricks takes 64 characters at most"


def wait(hook: DatabricksHook, run_id: int) -> str:
    while not (state := hook.get_run_state(run_id)).is_terminal:
        time.sleep(0.1)
    return state.result_state
