"""`bronze.registrations`: one row is one version of a row of `app.registered_users`.

Key: user_id, row_version, is_deleted. From the operational database by JDBC, as spark_jobs/bronze/extraction.py says.
"""

from __future__ import annotations

import sys

from spark_jobs.bronze import extraction

SOURCE = extraction.Source(
    table="app.registered_users",
    target="bronze.registrations",
    columns=("user_id", "device_id", "mac_address", "registered_at"),
)


def main(argv: list[str]) -> int:
    return extraction.main(SOURCE, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
