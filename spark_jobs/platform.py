"""What differs between one machine and Azure: where a table lies, where a checkpoint lies, where a secret comes from.

Jobs see only this seam. On one machine tables lie below a storage root and secrets are in the environment; on Azure
Unity Catalog manages the tables and a secret scope holds the secrets. Which one it is follows from the job's arguments.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pyspark.sql import SparkSession

from spark_jobs.slices import literal


class SecretMissing(Exception):
    """A secret is neither in the environment nor in the secret scope."""


@dataclass(frozen=True)
class Platform:
    """`storage_root`: URI below which tables lie, or None where the catalog manages them. `checkpoint_root`: URI of the
    streams' checkpoints. `secret_scope`: Databricks secret scope, or None where secrets come from the environment."""

    storage_root: str | None = None
    checkpoint_root: str | None = None
    secret_scope: str | None = None

    def location(self, name: str) -> str | None:
        """Where a table (`schema.table`) or a schema lies; None where the catalog decides."""
        return f"{self.storage_root.rstrip('/')}/{name.replace('.', '/')}" if self.storage_root else None

    def checkpoint(self, job: str) -> str:
        """Where the checkpoint of a job lies."""
        if not self.checkpoint_root:
            raise ValueError(f"{job} is a stream and needs --checkpoint-root.")
        return f"{self.checkpoint_root.rstrip('/')}/{job}"

    def secret(self, spark: SparkSession, name: str) -> str:
        """The secret of that name: from the environment as FITNESS_<NAME>, or else from the secret scope."""
        variable = f"FITNESS_{name.upper()}"
        if value := os.environ.get(variable):
            return value
        if self.secret_scope:
            # no parameters of spark.sql: Delta's extension does not bind them
            row = spark.sql(f"SELECT secret({literal(self.secret_scope)}, {literal(name)}) AS secret").head()
            if row is not None:
                return str(row.secret)
        raise SecretMissing(f"Neither {variable} is set nor does a secret scope hold {name!r}.")
