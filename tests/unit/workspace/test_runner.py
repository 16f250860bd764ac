"""The process of one attempt: however its job fails to start, its end is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.workspace import runner

AUTOGROUP = Path("/proc/self/autogroup")  # where Linux shares processor time out among sessions


def run(tmp_path: Path, argv: list[str], nice: int = 0) -> dict[str, Any]:
    spec = {"argv": argv, "cwd": str(tmp_path), "nice": nice, "timeout_seconds": 0, "grace_seconds": 1}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    subprocess.run([sys.executable, "-I", "-S", runner.__file__, str(tmp_path)], check=False, capture_output=True)
    return json.loads((tmp_path / "result.json").read_text())


@pytest.mark.parametrize("argv", [["/no/such/program"], [sys.executable, "a\0b"]], ids=["missing", "nul"])
def test_a_job_that_cannot_be_started_leaves_a_result_that_says_so(argv: list[str], tmp_path: Path) -> None:
    result = run(tmp_path, argv)
    assert result["exit_code"] is None
    assert result["error"].startswith("The job could not be started: ")


@pytest.mark.parametrize("nice", [0, 5])
def test_a_job_gives_way_as_it_was_told_and_so_does_its_session(nice: int, tmp_path: Path) -> None:
    said = "import os, sys; print(os.nice(0), *(open(name).read() for name in sys.argv[1:]))"
    files = [str(AUTOGROUP)] if AUTOGROUP.exists() else []
    assert run(tmp_path, [sys.executable, "-c", said, *files], nice)["exit_code"] == 0
    own, *session = (tmp_path / "log").read_text().split()
    assert int(own) == os.nice(0) + nice
    assert not session or int(session[-1]) == nice
