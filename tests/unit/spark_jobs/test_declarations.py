"""The DDL files: every table is described, keyed and followed by its change feed; a location is ours or refused."""

from __future__ import annotations

import re

import pytest

from spark_jobs import declarations
from spark_jobs.declarations import declared, statement
from spark_jobs.platform import Platform
from spark_jobs.quarantine import MEANINGS, Reason

LOCAL, AZURE = Platform("file:///lake"), Platform()
COLUMN = re.compile(r"^  \w+ +\S.*?(COMMENT '.+')?,?$")


@pytest.mark.parametrize("table", declared())
def test_every_column_says_what_it_is(table: str) -> None:
    body = statement(table, LOCAL, "c").split("(\n", 1)[1].split("\n)", 1)[0]
    assert all(" COMMENT '" in line for line in body.splitlines()), body


@pytest.mark.parametrize("table", declared())
def test_every_table_says_its_key_or_what_a_row_is_and_keeps_a_change_feed(table: str) -> None:
    text = statement(table, LOCAL, "c")
    assert "'delta.enableChangeDataFeed' = 'true'" in text
    assert re.search(r"^COMMENT '.+\.'$", text, re.MULTILINE)


@pytest.mark.parametrize("table", declared())
def test_every_silver_and_gold_table_is_clustered(table: str) -> None:
    if table.startswith(("silver.", "gold.")):
        assert "\nCLUSTER BY (" in statement(table, LOCAL, "c")


def test_on_one_machine_a_table_lies_below_the_storage_root() -> None:
    assert "LOCATION 'file:///lake/silver/users'" in statement("silver.users", LOCAL, "c")
    odd = Platform(storage_root="file:///o'brien/lake")
    assert r"LOCATION 'file:///o\'brien/lake/silver/users'" in statement("silver.users", odd, "c")


def test_on_azure_the_catalog_manages_the_table() -> None:
    text = statement("silver.users", AZURE, "fitness")
    assert "LOCATION" not in text and "fitness.silver.users" in text


def test_one_path_can_be_written_in_several_ways() -> None:
    assert {declarations._path(text) for text in ("file:/lake/a", "file:///lake/a/", "/lake/a")} == {"/lake/a"}
    assert declarations._path("abfss://x@y/a/") == "abfss://x@y/a"


def test_every_reason_of_refusal_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)
