"""Every DAG file loads, in every environment."""

from pathlib import Path

from airflow.dag_processing.dagbag import DagBag

from docs.dags import PAGE, page
from tests.dags.airflow_home import REPO


def test_every_dag_file_imports_without_errors(dagbag):
    assert dagbag.import_errors == {}


def test_every_dag_file_gives_the_dag_of_its_name(dagbag):
    assert set(dagbag.dags) == {file.stem for file in (REPO / "dags").glob("*.py")}
    assert {"bronze", "silver", "gold", "connectors", "rebuild"} <= set(dagbag.dags)


def test_a_broken_dag_file_would_be_seen(tmp_path: Path):
    (tmp_path / "broken.py").write_text(
        "from airflow.sdk import dag\nfrom include.settings import nothing_of_the_kind\n"
    )
    bag = DagBag(tmp_path)
    assert "nothing_of_the_kind" in next(iter(bag.import_errors.values()))


def test_airflow_accepts_the_dags_for_its_scheduler(dagbag):
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        DagSerialization.from_dict(DagSerialization.to_dict(dag))


def test_the_page_of_all_dags_is_up_to_date(dagbag):
    if dagbag.environment == "local":
        assert PAGE.read_text() == page(dagbag.dags.values()), "run python -m docs.dags"
