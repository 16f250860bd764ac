"""Where one local stack keeps its state, and on which ports it listens.

Everything a stack owns lies below `FITNESS_HOME`; every port follows from `FITNESS_PORT_BASE`. Two stacks with
different values of both run side by side.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

# In the environment of every process of a stack, and never in that of a person: by it `down` finds what is left.
MARK = "FITNESS_STACK"

CONNECT_USER = "fitness"  # who uses the API of Kafka Connect

PORT_OFFSETS = {
    "supervisor": 1,
    "spark": 2,
    "postgres": 32,
    "airflow_api": 80,
    "workspace": 77,
    "connect": 83,
    "kafka": 92,
    "kafka_controller": 93,
}


@dataclass(frozen=True)
class Home:
    """One local stack: its folder, its ports, its secrets."""

    path: Path
    port_base: int

    @classmethod
    def from_environment(cls) -> Home:
        """The stack that `FITNESS_HOME` (default: `.fitness` in the repository) and `FITNESS_PORT_BASE` name."""
        path = Path(os.environ.get("FITNESS_HOME") or REPO / ".fitness").expanduser().absolute()
        raw = os.environ.get("FITNESS_PORT_BASE") or "18000"
        if not raw.isdigit() or not 1024 <= int(raw) <= 65535 - max(PORT_OFFSETS.values()):
            raise ValueError(f"FITNESS_PORT_BASE must be a number from 1024 to 65435, not {raw!r}.")
        return cls(path, int(raw))

    def port(self, part: str) -> int:
        return self.port_base + PORT_OFFSETS[part]

    @property
    def lake(self) -> Path:
        return self.path / "lake"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def heartbeats(self) -> Path:
        return self.path / "heartbeats"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def temporary(self) -> Path:
        """For what processes leave behind; emptied at `up`."""
        return self.path / "tmp"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def kafka_bootstrap(self) -> str:
        return f"127.0.0.1:{self.port('kafka')}"

    @property
    def connect_url(self) -> str:
        return f"http://127.0.0.1:{self.port('connect')}"

    @property
    def connect_credentials(self) -> tuple[str, str]:
        """Who may use the API of Kafka Connect, and the password."""
        return CONNECT_USER, self.secrets["connect_password"]

    @property
    def workspace_url(self) -> str:
        return f"http://127.0.0.1:{self.port('workspace')}"

    @property
    def airflow_url(self) -> str:
        return f"http://127.0.0.1:{self.port('airflow_api')}"

    @property
    def spark_remote(self) -> str:
        """Its clients find the token in `spark_environment`; only to the name localhost do they say it without TLS."""
        return f"sc://localhost:{self.port('spark')}"

    @property
    def spark_environment(self) -> dict[str, str]:
        """The token of the Spark Connect server, as Spark's server and clients look for it."""
        return {"SPARK_CONNECT_AUTHENTICATE_TOKEN": self.secrets["spark_token"]}

    @property
    def spark_metadata(self) -> tuple[tuple[str, str], ...]:
        """The same token, for who speaks Spark Connect's protocol without its client."""
        return (("authorization", f"Bearer {self.secrets['spark_token']}"),)

    @property
    def jdbc_url(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port('postgres')}/fitness"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Generated once per stack, readable by its owner only: workspace_token, postgres_password, ..."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        wanted = {
            "workspace_token": 32,
            "postgres_password": 24,
            "postgres_admin_password": 24,
            "capture_password": 24,
            "connect_password": 24,
            "airflow_database_password": 24,
            "airflow_password": 16,
            "airflow_jwt": 64,
            "airflow_fernet_seed": 32,
            "supervisor_password": 24,
            "spark_token": 32,
        }
        missing = {name: secrets.token_urlsafe(size) for name, size in wanted.items() if name not in known}
        if missing:
            known |= missing
            self.path.mkdir(parents=True, exist_ok=True)
            draft = file.with_suffix(".tmp")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as out:
                json.dump(known, out, indent=1)
            draft.replace(file)
        return known

    @property
    def environment(self) -> dict[str, str]:
        """What every process of this stack finds in its environment (no secrets)."""
        return {
            "FITNESS_ENV": "local",
            MARK: str(self.path),
            "FITNESS_HOME": str(self.path),
            "FITNESS_PORT_BASE": str(self.port_base),
            "FITNESS_WORKSPACE_URL": self.workspace_url,
            "FITNESS_KAFKA_BOOTSTRAP": self.kafka_bootstrap,
            "FITNESS_CONNECT_URL": self.connect_url,
            "FITNESS_JDBC_URL": self.jdbc_url,
            "FITNESS_SQL_USER": "fitness",
            "PYTHONPATH": str(REPO),
            "TZ": "UTC",
        }

    @property
    def secret_environment(self) -> dict[str, str]:
        """Secrets, for the processes that need them: the workspace server, the jobs it runs, and Airflow."""
        return {
            "FITNESS_SQL_PASSWORD": self.secrets["postgres_password"],
            "FITNESS_WORKSPACE_TOKEN": self.secrets["workspace_token"],
        }
