"""A workspace server of the tests' own, on free ports in a temporary home, and the tiny jobs it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from databricks.sdk import WorkspaceClient
from databricks.sdk.service import compute, jobs

from local.home import Home
from tests.ports import free_port_base
from tests.waiting import until

# Each job is a few lines, so that what is tested is the server. Jobs that wait do so for a file named `go`.
JOBS = {
    "say": "import sys\nprint(*sys.argv[1:], sep='|')\n",
    "environment": "import json, os\nprint(json.dumps(dict(os.environ)))\n",
    "fail": "def f():\n    raise ValueError('no <b>luck</b>')\nf()\n",
    "leave": "import sys\nprint('bye')\nsys.exit(int(sys.argv[1]))\n",
    "once": (
        "import pathlib, sys\nmark = pathlib.Path(sys.argv[1])\n"
        "if not mark.exists():\n    mark.touch()\n    raise RuntimeError('first time')\n"
    ),
    "wait": (
        "import os, pathlib, sys, time\nprint(os.getpid(), flush=True)\nfolder = pathlib.Path(sys.argv[1])\n"
        "while not (folder / 'go').exists():\n    time.sleep(0.02)\nprint('went')\nsys.exit(int(sys.argv[2]))\n"
    ),
    "graceful": (
        "import signal, sys, time\n"
        "def stop(*_):\n    print('stopped at the end of a batch', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\nwhile True:\n    time.sleep(0.02)\n"
    ),
    "stubborn": (
        "import signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\nprint(child.pid, flush=True)\n"
        "while True:\n    time.sleep(1)\n"
    ),
}


class Server:
    """Started, killed and started again at will. `environment` adds to what the server finds."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.home = Home(folder / "home", free_port_base())
        self.environment = {"FITNESS_STOP_GRACE_SECONDS": "1", **environment}
        self.process: subprocess.Popen[bytes] | None = None
        (self.home.path / "dbfs").mkdir(parents=True)
        for name, text in JOBS.items():
            self.job_file(name, text)
        self.start()
        self.client = WorkspaceClient(host=self.home.workspace_url, token=self.token)

    @property
    def token(self) -> str:
        return self.home.secrets["workspace_token"]

    def job_file(self, name: str, text: str) -> str:
        (self.home.path / "dbfs" / f"{name}.py").write_text(text)
        return f"dbfs:/{name}.py"

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.workspace"],
                env={
                    **os.environ,
                    **self.home.environment,
                    **self.home.secret_environment,
                    **self.home.spark_environment,
                    **self.environment,
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(self.healthy)

    def healthy(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "server.log").read_text()
        try:
            return urllib.request.urlopen(f"{self.home.workspace_url}/healthz").status == 200
        except urllib.error.URLError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    # ---- shorthands of the SDK

    def task(self, file: str, *parameters: str, key: str = "only", **fields: Any) -> jobs.SubmitTask:
        """A task with a process of its own Spark, which these jobs never start; not limited by serverless slots."""
        python = jobs.SparkPythonTask(python_file=f"dbfs:/{file}.py", parameters=list(parameters))
        cluster = None if fields.pop("serverless", False) else compute.ClusterSpec(num_workers=0)
        return jobs.SubmitTask(task_key=key, spark_python_task=python, new_cluster=cluster, **fields)

    def submit(self, *tasks: jobs.SubmitTask, **fields: Any) -> int:
        return self.client.jobs.submit(run_name="test", tasks=list(tasks), **fields).run_id

    def create(self, *tasks: jobs.SubmitTask, **fields: Any) -> int:
        made = self.client.jobs.create(tasks=[jobs.Task.from_dict(task.as_dict()) for task in tasks], **fields)
        assert made.job_id is not None
        return made.job_id

    def run(self, run_id: int) -> jobs.Run:
        return self.client.jobs.get_run(run_id, include_history=True)

    def state(self, run_id: int) -> tuple[str, str | None]:
        """Life cycle and result, e.g. `("TERMINATED", "SUCCESS")`."""
        state = self.run(run_id).state
        assert state and state.life_cycle_state
        return state.life_cycle_state.value, state.result_state.value if state.result_state else None

    def ended(self, run_id: int) -> jobs.Run:
        """The run, once it has ended."""

        def look() -> jobs.Run | None:
            run = self.run(run_id)
            return run if self.state(run_id)[0] in ("TERMINATED", "SKIPPED", "INTERNAL_ERROR") else None

        found = until(look)
        assert found is not None
        return found

    def end_state(self, run_id: int) -> tuple[str, str | None]:
        self.ended(run_id)
        return self.state(run_id)

    def task_results(self, run_id: int) -> dict[str, str]:
        """Result of the last attempt of each task."""
        tasks = self.run(run_id).tasks or []
        return {
            task.task_key: task.state.result_state.value for task in tasks if task.state and task.state.result_state
        }

    def output(self, run_id: int) -> jobs.RunOutput:
        return self.client.jobs.get_run_output(run_id)

    def logs(self, run_id: int) -> str:
        """What the run's last attempt has written so far."""
        attempt = (self.run(run_id).tasks or [])[-1]
        assert attempt.run_id
        return self.output(attempt.run_id).logs or ""
