"""databricks-sdk, unchanged, against the real server."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from databricks.sdk.errors import InvalidParameterValue, ResourceDoesNotExist, Unauthenticated
from databricks.sdk.service import jobs

from tests.workspace.server import Server, until


def test_a_submitted_run_gets_its_parameters_as_they_are(server: Server) -> None:
    strange = ["", "a b", "; rm -rf $HOME", "--x=\"'", "\n", "ü💓", "{{ ds }}", "*"]
    run_id = server.submit(server.task("say", "{{job.run_id}}", "{{task.execution_count}}", *strange))
    assert server.end_state(run_id) == ("TERMINATED", "SUCCESS")
    assert server.output(run_id).logs == "|".join([str(run_id), "1", *strange]) + "\n"


def test_a_failed_run_says_its_python_error(server: Server) -> None:
    run_id = server.submit(server.task("fail"))
    run = server.ended(run_id)
    assert server.state(run_id) == ("TERMINATED", "FAILED")
    assert run.state and run.state.state_message == "Task only failed with message: ValueError: no <b>luck</b>"
    assert run.status and run.status.termination_details and run.status.termination_details.code
    assert run.status.termination_details.code.value == "RUN_EXECUTION_ERROR"
    output = server.output((run.tasks or [])[0].run_id or 0)
    assert output.error == "ValueError: no <b>luck</b>"
    assert output.error_trace and output.error_trace.startswith("Traceback") and "in f" in output.error_trace


def test_a_failure_without_a_traceback_says_exit_code_and_last_words(server: Server) -> None:
    run_id = server.submit(server.task("leave", "3"))
    server.ended(run_id)
    assert server.output(run_id).error == "The job ended with exit code 3; its last words were: bye"


def test_a_file_that_is_not_there_fails_the_run_with_a_sentence(server: Server) -> None:
    run_id = server.submit(server.task("nowhere"))
    assert server.end_state(run_id) == ("INTERNAL_ERROR", "FAILED")
    assert "Cannot read the python file dbfs:/nowhere.py" in (server.output(run_id).error or "")


def test_a_job_finds_only_what_it_needs_in_its_environment(server: Server) -> None:
    cluster_run = server.submit(server.task("environment"))
    serverless_run = server.submit(server.task("environment", serverless=True))
    for run_id in (cluster_run, serverless_run):
        server.ended(run_id)
    cluster, serverless = (json.loads(server.output(r).logs or "") for r in (cluster_run, serverless_run))
    assert "FITNESS_WORKSPACE_TOKEN" not in cluster and "FITNESS_SQL_PASSWORD" in cluster
    assert "SPARK_CONF_DIR" in cluster and "SPARK_REMOTE" not in cluster
    assert "session_id=" in serverless["SPARK_REMOTE"] and "SPARK_CONF_DIR" not in serverless


def test_tasks_run_in_the_order_of_their_dependencies_and_conditions(server: Server) -> None:
    after_a, after_b = [jobs.TaskDependency("a")], [jobs.TaskDependency("b")]
    run_id = server.submit(
        server.task("say", "1", key="a"),
        server.task("fail", key="b", depends_on=after_a),
        server.task("say", key="c", depends_on=after_b),
        server.task("say", key="d", depends_on=after_b, run_if=jobs.RunIf.AT_LEAST_ONE_FAILED),
        server.task("say", key="e", depends_on=after_a, run_if=jobs.RunIf.ALL_FAILED),
    )
    assert server.end_state(run_id) == ("TERMINATED", "FAILED")
    assert server.task_results(run_id) == {
        "a": "SUCCESS", "b": "FAILED", "c": "UPSTREAM_FAILED", "d": "SUCCESS", "e": "EXCLUDED",
    }  # fmt: skip


def test_output_of_a_run_with_several_tasks_is_asked_task_by_task(server: Server) -> None:
    run_id = server.submit(server.task("say", key="a"), server.task("say", key="b"))
    server.ended(run_id)
    with pytest.raises(InvalidParameterValue, match="multiple tasks"):
        server.output(run_id)


def test_a_failed_task_is_retried_and_each_attempt_is_kept(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(server.task("once", str(tmp_path / "mark"), max_retries=2))
    assert server.end_state(run_id) == ("TERMINATED", "SUCCESS")
    tasks = server.run(run_id).tasks or []
    assert [task.attempt_number for task in tasks] == [0, 1]
    assert [task.state.result_state.value for task in tasks if task.state and task.state.result_state] == [
        "FAILED",
        "SUCCESS",
    ]


def test_a_task_that_takes_too_long_is_stopped(server: Server, tmp_path: Path) -> None:
    run_id = server.submit(server.task("wait", str(tmp_path), "0", timeout_seconds=1))
    assert server.end_state(run_id) == ("TERMINATED", "TIMEDOUT")


def test_a_run_that_takes_too_long_is_stopped_with_all_its_tasks(server: Server, tmp_path: Path) -> None:
    waiting = server.task("wait", str(tmp_path), "0", key="a")
    after = server.task("say", key="b", depends_on=[jobs.TaskDependency("a")])
    run_id = server.submit(waiting, after, timeout_seconds=1)
    assert server.end_state(run_id) == ("TERMINATED", "TIMEDOUT")
    assert set(server.task_results(run_id).values()) == {"TIMEDOUT"}


def test_a_cancelled_job_may_come_to_the_end_of_its_batch(server: Server) -> None:
    run_id = server.submit(server.task("graceful"))
    until(lambda: "ready" in server.logs(run_id))
    server.client.jobs.cancel_run(run_id)
    assert server.end_state(run_id) == ("TERMINATED", "CANCELED")
    assert "stopped at the end of a batch" in server.logs(run_id)


def test_a_job_that_will_not_stop_is_killed_with_its_children(server: Server) -> None:
    run_id = server.submit(server.task("stubborn"))
    child = int(until(lambda: server.logs(run_id).strip()))
    server.client.jobs.cancel_run(run_id)
    assert server.end_state(run_id) == ("TERMINATED", "CANCELED")
    assert not Path(f"/proc/{child}").exists()


def test_a_job_whose_runner_hangs_is_ended_with_it(server: Server) -> None:
    run_id = server.submit(server.task("stubborn"))
    child = int(until(lambda: server.logs(run_id).strip()))
    runner = next(p for p in psutil.Process(child).parents() if "runner.py" in " ".join(p.cmdline()))
    runner.suspend()
    server.client.jobs.cancel_run(run_id)
    assert server.end_state(run_id)[0] in ("TERMINATED", "INTERNAL_ERROR")
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_same_idempotency_token_gives_the_same_run(server: Server) -> None:
    first = server.submit(server.task("say"), idempotency_token="token-1")
    assert server.submit(server.task("fail"), idempotency_token="token-1") == first
    assert server.submit(server.task("say"), idempotency_token="token-2") != first
    with pytest.raises(InvalidParameterValue, match="idempotency_token"):
        server.submit(server.task("say"), idempotency_token="x" * 65)


def test_a_job_runs_with_its_parameters_or_others(server: Server) -> None:
    job_id = server.create(
        server.task("say", "{{job.parameters.day}}"),
        name="with parameters",
        parameters=[jobs.JobParameterDefinition(name="day", default="monday")],
        max_concurrent_runs=5,
    )
    plain = server.client.jobs.run_now_and_wait(job_id)
    other = server.client.jobs.run_now_and_wait(job_id, job_parameters={"day": "friday"})
    python = server.client.jobs.run_now_and_wait(job_id, python_params=["sunday"])
    said = [server.logs(run.run_id or 0).strip() for run in (plain, other, python)]
    assert said == ["monday", "friday", "sunday"]


def test_a_job_can_be_read_changed_found_and_deleted(server: Server) -> None:
    tags = {"owner": "data"}
    job_id = server.create(server.task("say", key="a"), name="Changing", tags=tags)
    client = server.client.jobs
    settings = client.get(job_id).settings
    assert settings and settings.tags == tags and settings.max_concurrent_runs == 1
    client.update(job_id, new_settings=jobs.JobSettings(name="Changed"), fields_to_remove=["tags"])
    settings = client.get(job_id).settings
    assert settings and settings.name == "Changed" and settings.tags is None and len(settings.tasks or []) == 1
    assert [job.job_id for job in client.list(name="CHANGED")] == [job_id]
    client.reset(job_id, jobs.JobSettings(name="Reset"))
    settings = client.get(job_id).settings
    assert settings and settings.name == "Reset" and not settings.tasks
    client.delete(job_id)
    with pytest.raises(ResourceDoesNotExist):
        client.get(job_id)


def test_a_failed_run_is_repaired_with_the_tasks_that_failed(server: Server, tmp_path: Path) -> None:
    job_id = server.create(
        server.task("say", key="a"),
        server.task("once", str(tmp_path / "mark"), key="b", depends_on=[jobs.TaskDependency("a")]),
        server.task("say", key="c", depends_on=[jobs.TaskDependency("b")]),
        name="to repair",
    )
    run_id = server.client.jobs.run_now(job_id).run_id
    assert server.end_state(run_id) == ("TERMINATED", "FAILED")
    repair = server.client.jobs.repair_run(run_id, rerun_all_failed_tasks=True).response
    assert server.end_state(run_id) == ("TERMINATED", "SUCCESS")
    run = server.run(run_id)
    assert [(task.task_key, task.attempt_number) for task in run.tasks or []] == [
        ("a", 0), ("b", 0), ("c", 0), ("b", 1), ("c", 1),
    ]  # fmt: skip
    history = run.repair_history or []
    assert [item.id for item in history] == [None, repair.repair_id]
    assert [item.state.result_state.value for item in history if item.state and item.state.result_state] == [
        "FAILED",
        "SUCCESS",
    ]
    with pytest.raises(InvalidParameterValue, match="latest_repair_id"):
        server.client.jobs.repair_run(run_id, rerun_tasks=["a"])
    server.client.jobs.repair_run(run_id, rerun_tasks=["a"], latest_repair_id=repair.repair_id)
    assert server.end_state(run_id) == ("TERMINATED", "SUCCESS")


def test_runs_beyond_the_limit_of_a_job_are_skipped_or_queued(server: Server, tmp_path: Path) -> None:
    job_id = server.create(server.task("wait", str(tmp_path), "0"), name="one at a time")
    first = server.client.jobs.run_now(job_id).run_id
    skipped = server.client.jobs.run_now(job_id).run_id
    queued = server.client.jobs.run_now(job_id, queue=jobs.QueueSettings(enabled=True)).run_id
    assert server.state(skipped) == ("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED")
    until(lambda: server.state(first)[0] == "RUNNING")
    assert server.state(queued)[0] == "QUEUED"
    (tmp_path / "go").touch()
    assert server.end_state(first) == server.end_state(queued) == ("TERMINATED", "SUCCESS")


def test_all_runs_of_a_job_can_be_cancelled(server: Server, tmp_path: Path) -> None:
    job_id = server.create(server.task("wait", str(tmp_path), "0"), name="many", max_concurrent_runs=3)
    started = [server.client.jobs.run_now(job_id).run_id for _ in range(3)]
    server.client.jobs.cancel_all_runs(job_id=job_id)
    assert {server.end_state(run_id) for run_id in started} == {("TERMINATED", "CANCELED")}


def test_runs_are_listed_newest_first_page_by_page(server: Server) -> None:
    job_id = server.create(server.task("say"), name="listed", max_concurrent_runs=10)
    made = [server.client.jobs.run_now(job_id).run_id for _ in range(5)]
    for run_id in made:
        server.ended(run_id)
    listed = list(server.client.jobs.list_runs(job_id=job_id, limit=2, expand_tasks=True))
    assert [run.run_id for run in listed] == made[::-1]
    assert all(run.tasks for run in listed)
    assert not list(server.client.jobs.list_runs(job_id=job_id, active_only=True))
    assert len(list(server.client.jobs.list_runs(job_id=job_id, completed_only=True))) == 5
    server.client.jobs.delete_run(made[0])
    assert len(list(server.client.jobs.list_runs(job_id=job_id))) == 4


def test_what_does_not_exist_is_said_so(server: Server) -> None:
    client = server.client.jobs
    for ask in (client.get, client.delete, client.run_now):
        with pytest.raises(ResourceDoesNotExist):
            ask(1)
    for ask in (client.get_run, client.get_run_output, client.cancel_run, client.delete_run):
        with pytest.raises(ResourceDoesNotExist):
            ask(1)


def test_permissions_are_kept(server: Server) -> None:
    job_id = server.create(server.task("say"), name="shared")
    wanted = jobs.JobAccessControlRequest(user_name="ann", permission_level=jobs.JobPermissionLevel.CAN_VIEW)
    server.client.jobs.set_permissions(str(job_id), access_control_list=[wanted])
    entries = server.client.jobs.get_permissions(str(job_id)).access_control_list or []
    assert "ann" in [entry.user_name for entry in entries]


def test_the_platform_answers_who_and_where(server: Server) -> None:
    assert server.client.current_user.me().user_name
    assert [warehouse.id for warehouse in server.client.warehouses.list()] == ["local"]
    clusters = list(server.client.clusters.list())
    assert server.client.clusters.get(clusters[0].cluster_id or "").state == clusters[0].state
    with pytest.raises(ResourceDoesNotExist):
        server.client.clusters.get("nowhere")


def test_without_the_token_nothing_is_told(server: Server) -> None:
    from databricks.sdk import WorkspaceClient

    stranger = WorkspaceClient(host=server.home.workspace_url, token="wrong")
    with pytest.raises(Unauthenticated):
        list(stranger.jobs.list())
