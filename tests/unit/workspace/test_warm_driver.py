"""A process that becomes a job behaves as if it had been started as that job."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.home import REPO


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def becoming(file: Path, *parameters: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from local.workspace.warm_driver import become; become(sys.argv[1], sys.argv[2:])"
    return python("-c", code, str(file), *parameters)


@pytest.mark.parametrize(
    "job",
    [
        "import sys; print(sys.argv, sys.path[0], __name__, __file__)",
        "import helper; print(helper.NAME)",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int' = 3\nprint(A(), A.__module__)",
        "import sys; sys.exit(7)",
        "import sys; sys.exit('why it ends')",
        "def f():\n    raise ValueError('no luck')\nif __name__ == '__main__':\n    f()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise RuntimeError('after') from e",
        "this is no Python",
    ],
    ids=["arguments", "import", "dataclass", "exit", "words", "error", "chain", "syntax"],
)
def test_it_says_and_ends_as_the_file_run_by_itself(job: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("NAME = 'beside the job'\n")
    file = tmp_path / "job.py"
    file.write_text(job + "\n")
    alone, became = python(str(file), "--name", "a b"), becoming(file, "--name", "a b")
    assert (became.returncode, became.stdout, became.stderr) == (alone.returncode, alone.stdout, alone.stderr)


def test_a_job_imports_the_code_as_it_is_by_then() -> None:
    code = "import sys, spark_jobs.rules, local.workspace.warm_driver as warm; warm.forget_own_code(); "
    code += "print(sorted(name for name in sys.modules if name.split('.')[0] in ('spark_jobs', 'local', 'pyspark')))"
    assert "'pyspark.sql'" in python("-c", code).stdout
    assert "spark_jobs" not in python("-c", code).stdout
