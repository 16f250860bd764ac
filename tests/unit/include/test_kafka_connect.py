import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.kafka.topics import declared
from include.kafka_connect import (
    Connect,
    ConnectorFailed,
    Status,
    Step,
    Task,
    desired,
    plan,
    reconcile,
    relapses,
    root_cause,
)

REPO = Path(__file__).resolve().parents[3]
CONFIG = {"connector.class": "Some", "tasks.max": "1"}
RUNNING = Status("app", "RUNNING", tasks=(Task(0, "RUNNING"),))
TRACE = "org.Outer: no\n\tat org.Some\nCaused by: org.Middle: why\nCaused by: org.Inner: the database is down\n\tat x"
BROKEN = Status("app", "RUNNING", tasks=(Task(0, "FAILED", TRACE),))


@pytest.mark.parametrize(
    ("actual", "status", "steps"),
    [
        pytest.param({}, None, [Step("create", "app")], id="missing"),
        pytest.param({"app": CONFIG | {"name": "app"}}, RUNNING, [], id="as it should be"),
        pytest.param(
            {"app": {"connector.class": "Some", "tasks.max": "2", "old": "x"}},
            RUNNING,
            [Step("update", "app", "old, tasks.max")],
            id="changed",
        ),
        pytest.param({"app": CONFIG}, Status("app", "PAUSED"), [Step("resume", "app", "is PAUSED")], id="paused"),
        pytest.param({"app": CONFIG, "somebody-elses": {}}, RUNNING, [], id="others are left alone"),
    ],
)
def test_a_plan_does_what_is_missing_and_nothing_else(
    actual: dict[str, dict[str, str]], status: Status | None, steps: list[Step]
) -> None:
    assert plan({"app": CONFIG}, actual, {"app": status} if status else {}) == steps


def test_a_failed_task_is_restarted_with_its_reason() -> None:
    (step,) = plan({"app": CONFIG}, {"app": CONFIG}, {"app": BROKEN})
    assert step.action == "restart"
    assert "org.Inner: the database is down" in step.reason


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        pytest.param(RUNNING, None, id="runs"),
        pytest.param(Status("app", "RUNNING"), "app is RUNNING, its tasks: none", id="no task yet"),
        pytest.param(BROKEN, "its tasks: FAILED \\(org.Inner: the database is down\\)", id="failed task"),
        pytest.param(
            Status("app", "FAILED", "org.X: no"), "app is FAILED, its tasks: none \\(org.X: no\\)", id="failed"
        ),
    ],
)
def test_trouble_is_told_in_one_line(status: Status, trouble: str | None) -> None:
    if trouble is None:
        assert status.trouble is None
    else:
        with pytest.raises(AssertionError, match=trouble):
            raise AssertionError(status.trouble)


def test_the_root_cause_of_a_trace_is_its_last() -> None:
    assert root_cause(TRACE) == "org.Inner: the database is down"
    assert root_cause("org.X: only line") == "org.X: only line"


class Clock:
    """Stands for the module `time`: sleeping takes no time but moves the clock (seconds)."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


class Cluster:
    """A Connect cluster whose connector fails until it was restarted so many times.

    Until then it runs for `runs_seconds` after each restart.
    """

    def __init__(
        self, heals_after: int = 0, answers: dict[str, list[int]] | None = None, runs_seconds: float = 0
    ) -> None:
        self.configs: dict[str, Any] = {}
        self.heals_after, self.restarts, self.refusals = heals_after, 0, answers or {}
        self.runs_seconds, self.fails_at = runs_seconds, 0.0
        self.calls: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        import json

        call = f"{request.method} {request.url.path}"
        self.calls.append(call)
        if self.refusals.get(call):
            return httpx.Response(self.refusals[call].pop(0), json={"message": "not now"})
        name = request.url.path.split("/")[2] if request.url.path.count("/") > 1 else ""
        if request.url.path == "/connectors":
            return httpx.Response(
                200, json={name: {"info": {"config": config}} for name, config in self.configs.items()}
            )
        if request.url.path.endswith("/config"):
            self.configs[name] = json.loads(request.content)
            return httpx.Response(201, json={})
        if request.url.path.endswith("/restart"):
            self.restarts += 1
            self.fails_at = CLOCK.now + self.runs_seconds
            return httpx.Response(202, json={})
        if request.url.path.endswith("/status"):
            if name not in self.configs:
                return httpx.Response(404, json={"message": "no status"})
            runs = self.restarts >= self.heals_after or CLOCK.now < self.fails_at
            state = "RUNNING" if runs else "FAILED"
            task = {"id": 0, "state": state, "trace": "" if state == "RUNNING" else "org.X: no"}
            return httpx.Response(200, json={"name": name, "connector": {"state": "RUNNING"}, "tasks": [task]})
        raise AssertionError(call)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cluster], Connect]:
    monkeypatch.setattr("include.kafka_connect.time", CLOCK)
    return lambda cluster: Connect("http://connect", transport=httpx.MockTransport(cluster), patience_seconds=5)


def test_a_second_reconciliation_changes_nothing(connect: Callable[[Cluster], Connect]) -> None:
    cluster = Cluster()
    assert reconcile(connect(cluster), {"app": CONFIG}) == [Step("create", "app")]
    assert reconcile(connect(cluster), {"app": CONFIG}) == []
    assert cluster.configs == {"app": CONFIG}


def test_a_rebalance_and_a_worker_that_starts_are_waited_out(connect: Callable[[Cluster], Connect]) -> None:
    cluster = Cluster(answers={"PUT /connectors/app/config": [409, 500, 503]})
    reconcile(connect(cluster), {"app": CONFIG})
    assert cluster.calls.count("PUT /connectors/app/config") == 4


def test_a_configuration_that_connect_refuses_is_told_at_once(connect: Callable[[Cluster], Connect]) -> None:
    cluster = Cluster(answers={"PUT /connectors/app/config": [400, 400]})
    with pytest.raises(ConnectorFailed, match="PUT /connectors/app/config: 400 not now"):
        reconcile(connect(cluster), {"app": CONFIG})
    assert cluster.calls.count("PUT /connectors/app/config") == 1


def test_a_failing_connector_is_restarted_until_it_runs(connect: Callable[[Cluster], Connect]) -> None:
    cluster = Cluster(heals_after=2)
    steps = reconcile(connect(cluster), {"app": CONFIG}, restart_budget=3)
    assert [step.action for step in steps] == ["create", "restart", "restart"]


def test_the_restart_budget_is_kept_and_the_reason_told(connect: Callable[[Cluster], Connect]) -> None:
    cluster = Cluster(heals_after=99)
    with pytest.raises(ConnectorFailed, match=r"FAILED \(org.X: no\) after 2 restarts"):
        reconcile(connect(cluster), {"app": CONFIG}, restart_budget=2)
    assert cluster.restarts == 2


def test_a_connector_that_fails_again_seconds_after_a_restart_is_no_success(
    connect: Callable[[Cluster], Connect],
) -> None:
    cluster = Cluster(heals_after=99, runs_seconds=20)
    with pytest.raises(ConnectorFailed, match=r"FAILED \(org.X: no\) after 3 restarts"):
        reconcile(connect(cluster), {"app": CONFIG})
    assert cluster.restarts == 3


def test_a_connector_that_was_restarted_is_watched_for_a_while(connect: Callable[[Cluster], Connect]) -> None:
    began = CLOCK.now
    reconcile(connect(Cluster()), {"app": CONFIG})
    assert CLOCK.now - began < 1, "without a restart nobody waits"
    reconcile(connect(Cluster(heals_after=1)), {"app": CONFIG})
    assert CLOCK.now - began > 30


def test_a_user_and_a_password_are_shown_to_the_cluster(connect: Callable[[Cluster], Connect]) -> None:
    def wants_them(request: httpx.Request) -> httpx.Response:
        known = request.headers.get("Authorization") == httpx.BasicAuth("ada", "secret")._auth_header
        return httpx.Response(200, json={}) if known else httpx.Response(401, text="User cannot access the resource.")

    transport = httpx.MockTransport(wants_them)
    assert Connect("http://connect", ("ada", "secret"), transport=transport).configs() == {}
    with pytest.raises(ConnectorFailed, match="GET /connectors: 401 User cannot"):
        Connect("http://connect", transport=transport).configs()


@pytest.mark.parametrize(
    ("before", "failed", "after"),
    [
        pytest.param({}, [], {}, id="well"),
        pytest.param({}, ["app"], {"app": ["4"]}, id="fails for the first time"),
        pytest.param({"app": ["2", "3"]}, ["app"], {"app": ["2", "3", "4"]}, id="again and again"),
        pytest.param({"app": ["1", "2", "3"]}, ["app"], {"app": ["2", "3", "4"]}, id="for long"),
        pytest.param({"app": ["2", "3"]}, [], {}, id="a run that finds it well ends the row"),
        pytest.param({"app": ["3", "4"]}, ["app"], {"app": ["3", "4"]}, id="a second try counts once"),
        pytest.param({"app": ["3", "4"]}, [], {"app": ["3", "4"]}, id="a second try finds what the first restarted"),
        pytest.param({"app": ["3"]}, ["other"], {"other": ["4"]}, id="each for itself"),
    ],
)
def test_the_runs_in_a_row_that_found_a_connector_failed_are_remembered(
    before: dict[str, list[str]], failed: list[str], after: dict[str, list[str]]
) -> None:
    assert relapses(before, "4", failed, memory=3) == after


LARGEST_CHARACTER_BYTES = 6  # as JSON: \\u0001


@pytest.mark.parametrize("dialect", ["postgresql", "sqlserver"])
def test_no_row_of_a_captured_table_exceeds_what_its_topic_takes(dialect: str) -> None:
    config = desired(REPO / "include" / "connectors" / dialect)["fitness_app"]
    limits = {int(key.split(".")[3]): value for key, value in config.items() if key.startswith("column.truncate.to.")}
    prefix = "app." if dialect == "postgresql" else "fitness_prod.app."

    def limit(column: str) -> int:
        (found,) = (
            size for size, names in limits.items() if any(re.fullmatch(n, prefix + column) for n in names.split(","))
        )
        return found

    texts = re.findall(r"^  (\w+) +n?(?:text|varchar\()", _table("user_profile", dialect), re.MULTILINE)
    assert len(texts) == 8
    before_and_after = 2 * LARGEST_CHARACTER_BYTES * sum(limit(f"user_profile.{column}") for column in texts)
    message = limit("workout_events.payload")
    assert limit("workout_events.action")
    largest = int(config["producer.override.max.request.size"])
    assert max(before_and_after, message) < 0.9 * largest
    assert {t.settings.get("max.message.bytes") for t in declared() if t.name in {"user_profile", "workout"}} == {
        str(largest)
    }


def _table(name: str, dialect: str) -> str:
    """The declaration of a source's table."""
    text = (REPO / "include" / "sources" / f"{dialect}.sql").read_text()
    return text.split(f"app.{name} (\n")[1].split("\n);")[0]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlserver"])
def test_the_connectors_capture_exactly_once_and_hold_no_secret(dialect: str) -> None:
    connectors = desired(REPO / "include" / "connectors" / dialect)
    assert set(connectors) == {"fitness_app"}
    config = connectors["fitness_app"]
    assert config["exactly.once.support"] == "required"
    assert config["table.include.list"] == "app.user_profile,app.workout_events"
    secret = {key: value for key, value in config.items() if "password" in key or "user" in key.split(".")}
    assert secret
    assert all(value.startswith("${env:FITNESS_CDC_") for value in secret.values())


def test_both_dialects_make_the_same_topics() -> None:
    shape = [
        {key: value for key, value in config.items() if key.startswith(("transforms", "key.", "value.", "topic."))}
        for config in (
            desired(REPO / "include" / "connectors" / name)["fitness_app"] for name in ("postgresql", "sqlserver")
        )
    ]
    assert shape[0] == shape[1]


def test_a_value_that_is_not_a_string_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text('{"connector.class": "Some", "tasks.max": 1}')
    with pytest.raises(ValueError, match=r"app\.json: not strings: tasks\.max"):
        desired(tmp_path)
