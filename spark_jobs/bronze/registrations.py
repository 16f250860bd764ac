"""`bronze.registrations`: one row is one version of a row of `app.registered_users`, or its deletion.

Key: user_id, row_version, is_deleted. See extraction.py for how no version is lost and deletions are seen.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spark_jobs import job
from spark_jobs.bronze.extraction import Source, arguments, extract

SOURCE = Source(
    table="app.registered_users",
    target="bronze.registrations",
    key="user_id",
    columns={
        "user_id": "BIGINT",
        "device_id": "BIGINT",
        "mac_address": "STRING",
        "registered_at": "TIMESTAMP",
    },
)


def main(argv: Sequence[str]) -> int:
    return job.run(SOURCE.target, argv, lambda run: extract(run, SOURCE), [SOURCE.target], arguments(SOURCE.target))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
