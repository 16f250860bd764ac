"""`bronze.gym_visits`: one row is one version of a row of `app.gym_visits`.

Key: visit_id, row_version, is_deleted. From the operational database by JDBC, as spark_jobs/bronze/extraction.py says.
"""

from __future__ import annotations

import sys

from spark_jobs.bronze import extraction

SOURCE = extraction.Source(
    table="app.gym_visits",
    target="bronze.gym_visits",
    columns=("visit_id", "mac_address", "gym_id", "login_at", "logout_at"),
)


def main(argv: list[str]) -> int:
    return extraction.main(SOURCE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
