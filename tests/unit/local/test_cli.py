"""The `fitness` command, with nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.ports import free_port_base


def fitness(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if not name.startswith("FITNESS_")}
    environment = known | {"FITNESS_HOME": str(home), "FITNESS_PORT_BASE": str(free_port_base())}
    command = [sys.executable, "-m", "local.cli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_stream_is_asked_with_the_settings_of_the_stack(tmp_path: Path) -> None:
    """It finds them, as it gets as far as the workspace, which does not run."""
    asked = fitness(tmp_path, "stream", "status")
    assert asked.returncode == 1
    assert "ConnectError" in asked.stderr and "see ./fitness status" in asked.stderr


def test_where_there_is_no_stack_there_is_no_stream(tmp_path: Path) -> None:
    asked = fitness(tmp_path / "none", "stream", "status")
    assert (asked.returncode, asked.stderr) == (1, "nothing runs here\n")
    assert not (tmp_path / "none").exists()
