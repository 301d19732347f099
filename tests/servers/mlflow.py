"""A real MLflow server on loopback, with SQLite: stopping its processes is a hang, ending them a refusal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTED_WITHIN_S = 90.0
"""It imports for some eight seconds on a free core."""

LOG_SOME = """
import sys, mlflow
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
experiment = client.create_experiment("pretraining")
run = client.create_run(experiment, run_name="big", tags={"SLURM_JOB_ID": "4711"})
for step in range(3):
    client.log_metric(run.info.run_id, "loss", 1.0 / (step + 1), step=step)
client.log_metric(run.info.run_id, "gradient", float("nan"))
client.log_metric(run.info.run_id, "ppl", float("inf"))
client.log_param(run.info.run_id, "lr", "0.1")
client.log_param(run.info.run_id, "password", "hunter2-param")
done = client.create_run(experiment, run_name="done")
client.set_terminated(done.info.run_id, "FINISHED")
failed = client.create_run(experiment, run_name="failed")
client.set_terminated(failed.info.run_id, "FAILED")
client.create_registered_model("chat")
first = client.create_model_version("chat", done.info.artifact_uri, done.info.run_id)
client.set_registered_model_alias("chat", "champion", first.version)
second = client.create_model_version("chat", done.info.artifact_uri, done.info.run_id)
client.transition_model_version_stage("chat", second.version, "Archived")
print(run.info.run_id, done.info.run_id, failed.info.run_id)
"""


class MlflowServer:
    """One server, its database, and its own client to log through."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = Path(program)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.run_ids: list[str] = []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    "server",
                    f"--backend-store-uri=sqlite:///{self._folder}/mlflow.db",
                    f"--default-artifact-root={self._folder}/artifacts",
                    "--host=127.0.0.1",
                    f"--port={self.port}",
                    "--workers=1",
                ],
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it has a process below it, which is stopped and ended with it
            )
        until = time.monotonic() + STARTED_WITHIN_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        raise AssertionError((self._folder / "server.log").read_text()[-2000:])

    def stop(self) -> None:
        """End it, also while it is stopped."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def hang(self) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def mend(self) -> None:
        if self._process is None:
            self.start()
        else:
            os.killpg(self._process.pid, signal.SIGCONT)

    def run(self, script: str, *arguments: str) -> str:
        """Run a script with MLflow's own client; what it printed."""
        python = self._program.parent / "python"
        done = subprocess.run(
            [python, "-c", script, self.url, *arguments],
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return kept | {
            "HOME": str(self._folder),
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its evaluation jobs need packages of their own
            "GIT_PYTHON_REFRESH": "quiet",
        }
