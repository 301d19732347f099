"""A Slurm cluster on this machine, from nothing, on loopback: munged, slurmctld, some slurmd, slurmrestd.

Run as a program it starts one and waits: `python tests/servers/slurm.py [NODES]`. Needs root (Slurm runs as
the user it is configured for, and device files are made) and what scripts/install-servers installs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmrestd", "scontrol")
GPUS = 8
START_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 10.0
_MAJOR = 195  # of NVIDIA's devices; nothing opens them


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class SlurmCluster:
    """`nodes` virtual nodes n0, n1, ... with eight GPUs of type h100 each, in the partitions main and low.
    Each has 64 cores and 500 GiB, whatever the machine has, unless it is said otherwise."""

    def __init__(self, nodes: int = 3, *, cpus: int = 64, memory_mib: int = 512_000) -> None:
        self._cpus, self._memory_mib = cpus, memory_mib
        self.names = [f"n{index}" for index in range(nodes)]
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.socket = self.folder / "rest.sock"
        self.url = f"unix:{self.socket}"
        self.conf = self.folder / "slurm.conf"
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "SLURM_CONF": str(self.conf),
        }
        self._ports = free_ports(nodes + 1)

    def start(self) -> SlurmCluster:
        """Start all of it, and wait until every node is idle."""
        self._write()
        munge = self.folder / "munge"
        self._spawn(
            "munged", "--force", "--foreground", f"--key-file={munge}/key",
            f"--socket={self.folder}/munge.sock", f"--pid-file={munge}/pid",
            f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._wait(lambda: (self.folder / "munge.sock").exists(), "munged")
        self._spawn("slurmctld", "-D", "-c", "-f", str(self.conf))
        self._wait(lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld")
        for name in self.names:
            self._spawn("slurmd", "-D", "-N", name, "-f", str(self.conf), key=name)
        self.start_rest()
        self._wait(self.idle, "the nodes")
        return self

    def start_rest(self) -> None:
        """Start slurmrestd, also after `end("slurmrestd")`."""
        self.socket.unlink(missing_ok=True)
        self._spawn("slurmrestd", "-a", "rest_auth/local", "-s", "openapi/v0.0.38", self.url)
        self._wait(self._answers, "slurmrestd")

    def idle(self) -> bool:
        """Whether every node is idle and heard."""
        return self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).split() == ["idle"] * len(
            self.names
        )

    def run(self, *argv: str, check: bool = True, text: str | None = None) -> str:
        """One of Slurm's commands; what it wrote."""
        done = subprocess.run(
            argv,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            input=text,
            cwd=self.folder,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
        return done.stdout

    def submit(self, *options: str, script: str = "sleep 600") -> int:
        """Submit a batch job; its id."""
        out = self.run("sbatch", "--parsable", "-o", "/dev/null", *options, text=f"#!/bin/sh\n{script}\n")
        return int(out.strip().partition(";")[0])

    def pause(self, name: str) -> None:
        """Stop a process where it is: it hangs."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let it go on."""
        self.processes[name].send_signal(signal.SIGCONT)

    def end(self, name: str) -> None:
        """Kill one process."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait(STOP_TIMEOUT_S)

    def stop(self) -> None:
        """End everything, jobs first, and remove the folder. Repeating it does nothing."""
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
        if "slurmctld" in self.processes:
            self.run("scancel", "--user=root", check=False)
            until = time.monotonic() + STOP_TIMEOUT_S
            while self.run("squeue", "-h", check=False).strip() and time.monotonic() < until:
                time.sleep(0.1)
        for name in list(self.processes):
            process = self.processes.pop(name)
            process.kill()  # nothing of its state is wanted any more
            process.wait(STOP_TIMEOUT_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- inside

    def _spawn(self, *argv: str, key: str = "") -> None:
        log = (self.folder / f"{key or argv[0]}.out").open("ab")
        with log:
            self.processes[key or argv[0]] = subprocess.Popen(
                argv,
                env=self.env | {"SLURMRESTD_SECURITY": "disable_user_check"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    def _wait(self, ready: object, what: str) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while not ready():  # type: ignore[operator]  # a function without arguments
            if time.monotonic() > until:
                logs = "\n".join(
                    f"{path.name}: {path.read_text(errors='replace')[-2000:]}"
                    for path in self.folder.glob("*.log")
                )
                self.stop()
                raise AssertionError(f"{what} did not start:\n{logs}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(self.socket))
            except OSError:
                return False
            return True

    def _write(self) -> None:
        folder, host = self.folder, socket.gethostname().partition(".")[0]
        folder.chmod(0o755)
        for name in ("state", "spool", "dev", "munge"):
            (folder / name).mkdir()
        (folder / "munge").chmod(0o700)
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for index in range(GPUS):  # Slurm counts any file, and hands out only device files
            os.mknod(folder / "dev" / f"nvidia{index}", 0o600 | 0o020000, os.makedev(_MAJOR, index))
        lines = [
            "ClusterName=steersman",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={self._ports[0]}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            f"AuthInfo=socket={folder}/munge.sock",
            "CredType=cred/munge",
            "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
            f"StateSaveLocation={folder}/state",
            f"SlurmdSpoolDir={folder}/spool/%n",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd-%n.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd-%n.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "AccountingStorageType=accounting_storage/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core_Memory",
            "SchedulerType=sched/backfill",
            "SchedulerParameters=bf_interval=1,sched_min_interval=100000",
            "SlurmdParameters=config_overrides",
            "MpiDefault=none",
            "ReturnToService=2",
            "SlurmctldTimeout=30",
            "SlurmdTimeout=30",
            "KillWait=2",
            "MinJobAge=60",  # an ended job stays to be looked at, however slow the machine
            "GresTypes=gpu",
        ]
        for name, port in zip(self.names, self._ports[1:], strict=True):
            (folder / "spool" / name).mkdir()
            lines.append(
                f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
                f" CPUs={self._cpus} Sockets=1 CoresPerSocket={self._cpus} ThreadsPerCore=1"
                f" RealMemory={self._memory_mib} Gres=gpu:h100:{GPUS} State=UNKNOWN"
            )
        everyone = ",".join(self.names)
        lines.append(f"PartitionName=main Nodes={everyone} Default=YES MaxTime=INFINITE State=UP")
        lines.append(f"PartitionName=low Nodes={everyone} MaxTime=1-02:00:00 State=UP PriorityTier=1")
        self.conf.write_text("\n".join(lines) + "\n")
        (folder / "gres.conf").write_text(
            f"NodeName={everyone} Name=gpu Type=h100 File={folder}/dev/nvidia[0-{GPUS - 1}]"
            " Flags=nvidia_gpu_env\n"
        )


if __name__ == "__main__":
    cluster = SlurmCluster(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    begun = time.monotonic()
    cluster.start()
    print(
        f"SLURM_CONF={cluster.conf} {cluster.url} ({time.monotonic() - begun:.1f} s); Ctrl-C ends it",
        flush=True,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()
