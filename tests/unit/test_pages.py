"""Pages for people that could drift from the code do not."""

from __future__ import annotations

import re
from pathlib import Path

from spark_jobs.quarantine import MEANINGS, Reason

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_quarantine_page_lists_every_reason_with_its_meaning() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "quarantine.md").read_text(), re.MULTILINE))
    assert told == {str(reason): MEANINGS[reason] for reason in Reason}
