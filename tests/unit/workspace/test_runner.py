"""The process of one attempt: however its job fails to start, its end is written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local.workspace import runner


@pytest.mark.parametrize("argv", [["/no/such/program"], [sys.executable, "a\0b"]], ids=["missing", "nul"])
def test_a_job_that_cannot_be_started_leaves_a_result_that_says_so(argv: list[str], tmp_path: Path) -> None:
    spec = {"argv": argv, "cwd": str(tmp_path), "timeout_seconds": 0, "grace_seconds": 1}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    subprocess.run([sys.executable, "-I", "-S", runner.__file__, str(tmp_path)], check=False, capture_output=True)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["exit_code"] is None
    assert result["error"].startswith("The job could not be started: ")
