"""SQL through databricks-sdk, on a real Spark Connect server; and what a cancelled job leaves there: nothing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from databricks.sdk.service import sql

from local.services.spark import PART
from local.workspace.compute import session_url
from local.workspace.warehouse import Warehouse, close, query
from tests.workspace.server import Server, until

pytestmark = pytest.mark.spark

ENDLESS = "SELECT count(*) FROM range(1000000000) a JOIN range(1000000000) b ON a.id % 7 = b.id % 7"


@contextmanager
def spark_beside(server: Server) -> Iterator[None]:
    """A Spark Connect server on the server's home."""
    launch, started_at = PART.prepare(server.home), time.time()
    launch.folder.mkdir(parents=True, exist_ok=True)
    with (server.folder / "spark.log").open("ab") as log:
        process = subprocess.Popen(
            launch.arguments, env=dict(launch.environment), cwd=launch.folder, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until(lambda: PART.ready(server.home, started_at) is None, patience_seconds=240)
        with pytest.MonkeyPatch.context() as here:
            for name, value in server.home.spark_environment.items():
                here.setenv(name, value)
            yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def spark(server: Server) -> Iterator[Server]:
    """The module's server, with Spark beside it."""
    with spark_beside(server):
        yield server


GOLD = {
    "gold.workout_completion": (
        " (DATE '2026-05-01', 1, '25-35', 4, 3, 1, 0, 0.75), (DATE '2026-05-02', 1, '<b>x</b>', 2, 2, 0, 0, 1.0),"
        " (DATE '2999-01-01', 1, '25-35', 1, 0, 0, 1, 0.0)"
    ),
    "gold.gym_activity": (
        " (DATE '2026-05-01', 1, 5, 'aa', 2, array(), 60.0, 0.0), (DATE '2999-01-01', 9, 5, 'aa', 1, array(), 1.0, 0.0)"
    ),
    "gold.bpm_trends": (
        " (7, TIMESTAMP '2026-05-01 10:00:00', 60, 70, 80, 12), (7, TIMESTAMP '2999-01-01 00:00:00', 60, 70, 80, 12)"
    ),
}


@pytest.fixture(scope="module")
def gold(spark: Server) -> Server:
    """As the gold jobs would leave it, with a row of a clock that is wrong; the server has yet to notice."""
    from pyspark.sql.connect.session import SparkSession

    from spark_jobs import declarations
    from spark_jobs.platform import Platform

    session = SparkSession.builder.remote(session_url(spark.home, "00000000-0000-4000-8000-000000000001")).create()
    platform = Platform(storage_root=str(spark.home.lake))
    for table, values in GOLD.items():
        declarations.register(session, platform, "spark_catalog", table)  # type: ignore[arg-type]
        session.sql(f"INSERT INTO {table} VALUES {values}").collect()
    session.client.release_session()
    session.client.close()
    return spark


@pytest.mark.parametrize("who", [(), (("authorization", "Bearer wrong"),)], ids=["no token", "a wrong one"])
def test_spark_itself_wants_a_token(spark: Server, who: tuple[tuple[str, str], ...]) -> None:
    import grpc
    from pyspark.sql.connect.proto import base_pb2, base_pb2_grpc

    request = base_pb2.ReleaseSessionRequest(
        session_id="00000000-0000-4000-8000-000000000009", user_context=base_pb2.UserContext(user_id="evil")
    )
    with (
        grpc.insecure_channel(f"127.0.0.1:{spark.home.port('spark')}") as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        base_pb2_grpc.SparkConnectServiceStub(channel).ReleaseSession(request, timeout=10, metadata=who)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def execute(server: Server, statement: str, **fields: object) -> sql.StatementResponse:
    """The statement's last word."""
    api = server.client.statement_execution
    said = api.execute_statement(statement, "local", wait_timeout="0s", **fields)  # type: ignore[arg-type]

    def look() -> sql.StatementResponse | None:
        found = api.get_statement(said.statement_id or "")
        going = (sql.StatementState.PENDING, sql.StatementState.RUNNING)
        return None if found.status and found.status.state in going else found

    ended = until(look, patience_seconds=120)
    assert ended is not None
    return ended


def rows(response: sql.StatementResponse) -> list[list[str]]:
    assert response.result is not None, response.status
    return response.result.data_array or []


def test_values_come_as_text_with_their_types(spark: Server) -> None:
    said = execute(
        spark,
        "SELECT 1 AS i, TIMESTAMP '2026-01-02 03:04:05.5' AS t, DATE '2026-01-02' AS d,"
        " CAST(1.5 AS DECIMAL(10, 2)) AS m, array(1L, 2L) AS a,"
        " true AS b, X'00FF' AS x, CAST(NULL AS STRING) AS n, double('NaN') AS f",
    )
    assert rows(said) == [["1", "2026-01-02T03:04:05.500Z", "2026-01-02", "1.50", "[1,2]", "true", "AP8=", None, "NaN"]]
    assert said.manifest and said.manifest.schema
    columns = {column.name: column for column in said.manifest.schema.columns or []}
    assert [column.type_text for column in columns.values()] == [
        "INT", "TIMESTAMP", "DATE", "DECIMAL(10,2)", "ARRAY<BIGINT>", "BOOLEAN", "BINARY", "STRING", "DOUBLE",
    ]  # fmt: skip
    assert (columns["m"].type_precision, columns["m"].type_scale) == (10, 2)


def test_days_and_times_of_any_year_are_returned(spark: Server) -> None:
    said = execute(
        spark,
        "SELECT TIMESTAMP '+10000-01-01 00:00:00', TIMESTAMP '0000-03-01 00:00:00', DATE '-0044-03-15',"
        " array(DATE '+12345-06-07'), named_struct('at', TIMESTAMP '-0001-01-01 00:00:00')",
    )
    assert rows(said) == [
        [
            "+10000-01-01T00:00:00.000Z",
            "0000-03-01T00:00:00.000Z",
            "-0044-03-15",
            '["+12345-06-07"]',
            '{"at":"-0001-01-01T00:00:00.000Z"}',
        ]
    ]


def test_parameters_are_values_and_never_sql(spark: Server) -> None:
    evil = "x' OR 1=1; DROP TABLE a -- \" \\ ü"
    said = execute(
        spark,
        "SELECT :text AS text, :number + 1 AS number, :day AS day FROM range(3) WHERE id = :number",
        parameters=[
            sql.StatementParameterListItem("text", value=evil),
            sql.StatementParameterListItem("number", type="BIGINT", value="2"),
            sql.StatementParameterListItem("day", type="DATE"),
        ],
    )
    assert rows(said) == [[evil, "3", None]]


def test_a_parameter_of_the_wrong_type_fails_the_statement(spark: Server) -> None:
    wrong = sql.StatementParameterListItem("n", type="BIGINT", value="many")
    said = execute(spark, "SELECT :n", parameters=[wrong])
    assert said.status and said.status.state is sql.StatementState.FAILED and said.status.sql_state == "22018"


def test_a_wrong_statement_says_what_is_wrong(spark: Server) -> None:
    said = execute(spark, "SELECT * FROM gold.nothing")
    assert said.status and said.status.state is sql.StatementState.FAILED and said.status.error
    assert "TABLE_OR_VIEW_NOT_FOUND" in (said.status.error.message or "")


def test_a_long_result_comes_in_chunks(spark: Server) -> None:
    said = execute(spark, "SELECT id FROM range(25000) ORDER BY id")
    assert said.manifest and (said.manifest.total_row_count, said.manifest.total_chunk_count) == (25_000, 3)
    api = spark.client.statement_execution
    last = api.get_statement_result_chunk_n(said.statement_id or "", 2)
    assert (last.data_array or [])[-1] == ["24999"]
    limited = execute(spark, "SELECT id FROM range(25000)", row_limit=10)
    assert limited.manifest and limited.manifest.truncated and len(rows(limited)) == 10


def test_a_statement_can_be_cancelled(spark: Server) -> None:
    api = spark.client.statement_execution
    said = api.execute_statement(ENDLESS, "local", wait_timeout="0s")
    api.cancel_execution(said.statement_id or "")
    found = api.get_statement(said.statement_id or "")
    assert found.status and found.status.state is sql.StatementState.CANCELED


def test_tables_are_known_once_they_exist(gold: Server) -> None:
    assert rows(execute(gold, "SELECT sum(started) FROM gold.workout_completion")) == [["7"]]


def test_the_dashboard_shows_gold_and_no_html_of_its_data(gold: Server) -> None:
    headers = {"Authorization": f"Bearer {gold.token}"}
    with httpx.Client(base_url=gold.home.workspace_url, headers=headers, timeout=120) as browser:
        by_day = browser.get("/dashboard/workout_completion").json()
        by_age = browser.get("/dashboard/workout_completion_by_age").json()
    assert [(row["workout_date"], row["completed_percent"]) for row in by_day["rows"]] == [
        ("2026-05-01", "75.0"),
        ("2026-05-02", "100.0"),
    ]
    assert "<svg" in by_day["html"] and by_day["updated"]
    assert "&lt;b&gt;x" in by_age["html"] and "<b>x" not in by_age["html"]


def test_a_row_of_the_future_hides_no_other(gold: Server) -> None:
    headers = {"Authorization": f"Bearer {gold.token}"}
    with httpx.Client(base_url=gold.home.workspace_url, headers=headers, timeout=120) as browser:
        views = ("workout_completion", "workout_completion_by_age", "gym_activity", "bpm_trends")
        shown = {name: browser.get(f"/dashboard/{name}").json()["rows"] for name in views}
    assert {name: [next(iter(row.values())) for row in rows] for name, rows in shown.items()} == {
        "workout_completion": ["2026-05-01", "2026-05-02"],
        "workout_completion_by_age": ["25-35", "<b>x</b>"],
        "gym_activity": ["1"],
        "bpm_trends": ["2026-05-01T10:00:00.000Z"],
    }


def test_what_a_cancelled_job_left_on_spark_ends(spark: Server) -> None:
    text = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\nprint('go', flush=True)\n"
    text += "spark.conf.set('spark.sql.codegen.wholeStage', 'true')\n"  # else Spark's range never looks whether to end
    text += f"spark.sql({ENDLESS!r}).show()\n"
    spark.job_file("endless", text)
    run_id = spark.submit(spark.task("endless", serverless=True))
    until(lambda: "go" in spark.logs(run_id))
    session_id = session_of(spark, run_id)
    spark.client.jobs.cancel_run(run_id)
    assert spark.end_state(run_id) == ("TERMINATED", "CANCELED")
    until(lambda: session_is_closed(spark, session_id))


def session_of(server: Server, run_id: int) -> str:
    """The session the attempt was given, as its runner's environment tells."""
    attempt = (server.run(run_id).tasks or [])[-1].run_id
    pid = (server.home.path / "workspace" / "attempts" / str(attempt) / "0" / "runner").read_text()
    return Path(f"/proc/{pid}/environ").read_text().partition("session_id=")[2].partition("\0")[0]


def session_is_closed(server: Server, session_id: str) -> bool:
    """A released session refuses whoever comes with its id."""
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession.builder.remote(session_url(server.home, session_id)).create()
    session.client.set_retry_policies([])
    try:
        session.conf.get("spark.sql.session.timeZone")
    except Exception as error:
        return "CLOSED" in str(error)
    finally:
        session.client.close()
    return False


def test_sessions_share_no_threads_that_one_of_them_would_wait_for_when_it_is_collected(spark: Server) -> None:
    """Collected by a thread that such a thread was just starting, it waited for ever, and all others for it."""
    from pyspark.sql.connect.client.reattach import ExecutePlanResponseReattachableIterator

    ExecutePlanResponseReattachableIterator.shutdown()  # of other tests' sessions
    session = Warehouse(spark.home).session()
    said, threads = (
        query(session, "SELECT 1").rows,
        ExecutePlanResponseReattachableIterator._release_thread_pool_instance,
    )
    close(session)
    assert (said, threads) == ([["1"]], None)


def test_a_job_with_a_cluster_of_its_own_has_a_jvm_of_its_own(spark: Server) -> None:
    text = (
        "import os\nfrom pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
        "print(type(spark).__module__, spark.conf.get('spark.fitness.note'), os.environ['NOTE'])\nspark.stop()\n"
    )
    spark.job_file("own_jvm", text)
    task = spark.task("own_jvm")
    assert task.new_cluster is not None
    task.new_cluster.spark_conf = {"spark.fitness.note": "a b'c", "spark.driver.memory": "512m"}
    task.new_cluster.spark_env_vars = {"NOTE": "n"}
    run_id = spark.submit(task)
    assert spark.end_state(run_id) == ("TERMINATED", "SUCCESS"), spark.logs(run_id)
    assert "pyspark.sql.session a b'c n" in spark.logs(run_id)


def test_a_spark_that_was_restarted_is_found_again(own_server: Server) -> None:
    with spark_beside(own_server):
        assert rows(execute(own_server, "SELECT 1")) == [["1"]]
    said = execute(own_server, "SELECT 1")
    assert said.status and said.status.error
    assert said.status.error.error_code is sql.ServiceErrorCode.TEMPORARILY_UNAVAILABLE
    with spark_beside(own_server):
        assert rows(execute(own_server, "SELECT 1")) == [["1"]]
