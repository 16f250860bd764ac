"""Mutations that can be applied, tests that exist, and a verdict that follows from what pytest returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import mutations
from bench.mutations import MUTATIONS, REPO, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_changes_one_place_and_names_tests_that_are_there(mutation: Mutation) -> None:
    assert (REPO / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (REPO / file).read_text()


@pytest.mark.parametrize(
    ("code", "result"),
    [
        pytest.param(0, "survived", id="all passed"),
        pytest.param(1, "killed", id="one failed"),
        pytest.param(4, "pytest returned 4", id="no such test"),
    ],
)
def test_the_result_follows_from_the_tests_and_the_copy_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, result: str
) -> None:
    (tmp_path / "job.py").write_text("a < b")
    seen: list[str] = []

    def tested(*_: object) -> int:
        seen.append((tmp_path / "job.py").read_text())
        return code

    monkeypatch.setattr(mutations, "tested", tested)
    assert mutations.tried(Mutation("", "job.py", "<", "<=", ("t",)), tmp_path, 1) == result
    assert seen == ["a <= b"]
    assert (tmp_path / "job.py").read_text() == "a < b"


def test_a_mutation_that_cannot_be_applied_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("a < b < c")
    assert "2 times" in mutations.tried(Mutation("", "job.py", "<", "<=", ("t",)), tmp_path, 1)
