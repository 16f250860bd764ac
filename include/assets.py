"""Assets: what a finished task announces, and what starts the next layer.

Each job announces its table (lineage, and something for other DAGs to wait for). The next layer does not wait for
tables but for one event at the end of a layer's run: with a condition over several tables, one source that is down
would hold back the others' flows, and one that is cleared by hand would leave the events out of step for good.
"""

from __future__ import annotations

from airflow.sdk import Asset

BRONZE_DONE = Asset("bronze_done")
SILVER_DONE = Asset("silver_done")
CONNECTORS = Asset("connectors")  # never announced: what the DAG of that name remembers from run to run hangs on it


def table(name: str) -> Asset:
    """The asset of a table, `silver.users`."""
    return Asset(name)
