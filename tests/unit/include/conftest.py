from tests.dags.airflow_home import isolate

isolate()
