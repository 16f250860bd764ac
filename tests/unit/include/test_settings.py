"""Settings are strict, and their errors say what to do."""

from datetime import timedelta

import pytest

from include.payloads import stream_cluster
from include.settings import ENVIRONMENTS, SettingsError, check_offline, load, parse
from tests.dags.airflow_home import DEPLOYMENT

NAMES = sorted(file.stem for file in ENVIRONMENTS.glob("*.yaml"))


@pytest.fixture
def document():
    return {
        "name": "local",
        "catalog": "spark_catalog",
        "storage_root": "file://${FITNESS_HOME}/lake",
        "checkpoint_root": "file:///c",
        "secret_scope": None,
        "paused_at_creation": False,
        "databricks": {
            "connection_id": "databricks_default",
            "deferrable": False,
            "polling_seconds": 1,
            "retry_limit": 10,
            "retry_delay_seconds": 1,
            "pool": "default_pool",
            "code_root": "/code",
        },
        "batch": {"environment_version": "4"},
        "stream": {
            "cluster": {"spark_version": "18", "node_type_id": "n", "num_workers": 0},
            "trigger_seconds": 2,
            "heartbeat": "file:///h",
        },
        "kafka": {"bootstrap_servers": "k:1"},
        "sql": {"jdbc_url": "jdbc:x", "user": "u"},
        "connect": {"url": "http://c", "connection_id": "c", "dialect": "postgresql"},
        "alerts": [{"kind": "file", "path": "/a"}],
        "dags": {"gold": {"deadline": "10m", "job_timeout": "2h", "retries": 1, "retry_delay": "5s"}},
    }


def complaint(document, environ=DEPLOYMENT) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(document, "x.yaml", environ)
    return str(caught.value)


@pytest.mark.parametrize("node", [{}, {"node_type_id": "n", "instance_pool_id": "p"}], ids=["neither", "both"])
def test_a_cluster_has_a_type_of_node_or_a_pool(document, node):
    document["stream"]["cluster"] = {"spark_version": "18", "num_workers": 0, **node}
    assert "stream.cluster" in complaint(document)
    assert "node_type_id or instance_pool_id" in complaint(document)


def test_a_cluster_from_a_pool_names_no_type_of_node(document):
    document["stream"]["cluster"] = {"spark_version": "18", "num_workers": 0, "instance_pool_id": "p"}
    assert stream_cluster(parse(document, "x.yaml", DEPLOYMENT))["instance_pool_id"] == "p"
    assert "node_type_id" not in stream_cluster(parse(document, "x.yaml", DEPLOYMENT))


def test_there_are_three_environments():
    assert NAMES == ["dev", "local", "prod"]


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_is_valid_and_called_as_its_file(name):
    assert check_offline(name).name == name
    assert load(name, DEPLOYMENT).name == name


def test_all_environments_know_the_same_dags():
    assert len({frozenset(check_offline(name).dags) for name in NAMES}) == 1


def test_a_reference_is_resolved(document):
    assert parse(document, "x.yaml", DEPLOYMENT).storage_root == "file:///fitness-home/lake"


def test_durations_have_units(document):
    gold = parse(document, "x.yaml", DEPLOYMENT).dag("gold")
    assert (gold.retry_delay, gold.deadline, gold.job_timeout) == tuple(map(timedelta, (0, 0, 0), (5, 600, 7200)))


def test_a_variable_that_is_not_set_is_named_with_its_field(document):
    text = complaint(document, {})
    assert "x.yaml cannot be used" in text
    assert "storage_root: set the environment variable FITNESS_HOME" in text


def test_an_empty_variable_counts_as_not_set(document):
    assert "FITNESS_HOME" in complaint(document, {"FITNESS_HOME": ""})


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param(("kafka", "bootstap"), "k", "kafka.bootstap: no such setting", id="misspelt"),
        pytest.param(("dags", "gold", "deadline"), 600, "dags.gold.deadline: value error, write a duration", id="unit"),
        pytest.param(
            ("databricks", "retry_limit"), 3, "databricks.retry_limit: input should be greater", id="impatient"
        ),
        pytest.param(("alerts",), [], "alerts: tuple should have at least 1 item", id="nobody hears alerts"),
        pytest.param(("name",), "staging", "name: input should be 'local', 'dev' or 'prod'", id="unknown environment"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(document, path, value, expected):
    *parents, last = path
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value
    assert expected in complaint(document)


def test_a_missing_field_is_named(document):
    del document["kafka"]["bootstrap_servers"]
    assert "kafka.bootstrap_servers: is required" in complaint(document)


def test_every_mistake_is_reported_at_once(document):
    document["catalogue"] = document.pop("catalog")
    assert len(complaint(document).splitlines()) == 3


def test_an_unknown_environment_names_the_known_ones():
    with pytest.raises(SettingsError, match="one of dev, local, prod"):
        load("staging", {})


def test_a_dag_without_settings_is_named(document):
    with pytest.raises(SettingsError, match=r"local\.yaml: dags\.platinum is missing"):
        parse(document, "x.yaml", DEPLOYMENT).dag("platinum")
