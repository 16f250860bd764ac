"""`bronze.gym_visits`: one row is one version of a row of `app.gym_visits`, or its deletion.

Key: visit_id, row_version, is_deleted. See extraction.py for how no version is lost and deletions are seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spark_jobs import job
from spark_jobs.bronze.extraction import Source, arguments, extract

SOURCE = Source(
    table="app.gym_visits",
    target="bronze.gym_visits",
    key="visit_id",
    columns={
        "visit_id": "BIGINT",
        "mac_address": "STRING",
        "gym_id": "BIGINT",
        "login_at": "TIMESTAMP",
        "logout_at": "TIMESTAMP",
    },
)


def main(argv: Sequence[str]) -> int:
    return job.run(SOURCE.target, argv, lambda run: extract(run, SOURCE), [SOURCE.target], arguments(SOURCE.target))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
