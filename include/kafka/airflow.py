"""How Airflow reaches the brokers."""

from __future__ import annotations

from airflow.exceptions import AirflowNotFoundException
from airflow.sdk import Connection

from include.settings import Settings

# Its extra is a confluent client's configuration; wanted where the brokers ask who we are.
KAFKA_CONNECTION = "kafka_default"


def client_settings(environment: Settings) -> dict[str, str]:
    """Configuration of a confluent client."""
    known = {"bootstrap.servers": environment.kafka.bootstrap_servers, **environment.kafka.options}
    try:
        return known | {name: str(value) for name, value in Connection.get(KAFKA_CONNECTION).extra_dejson.items()}
    except AirflowNotFoundException:
        return known
