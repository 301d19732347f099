"""A file system of this machine that a test may fill: a small image, mounted where only its own processes
see it.

The host source watches every local file system, so a program in the same mount namespace sees the machine's
fullest disk go over its threshold, and nothing else on the machine does. Needs root and `mount -o loop`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

IMAGE_MIB = 48
FULL_SHARE = 0.92
"""Between 90 % (degraded) and 97 % (critical) of the host's rules."""


class SmallDisk:
    """The namespace, its disk, and what fills it."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "disk"
        self.mount.mkdir(parents=True)
        self._image = folder / "disk.img"
        with self._image.open("wb") as image:
            image.truncate(IMAGE_MIB << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self._image], check=True, timeout=60)
        # A process that does nothing keeps the namespace alive while the programs in it come and go.
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        self._wait_unshared()
        self._run("mount", "-o", "loop", str(self._image), str(self.mount))

    def inside(self, cwd: Path) -> tuple[str, ...]:
        """Words to put in front of a command, so that it runs in there."""
        return ("nsenter", f"--target={self._keeper.pid}", "--mount", f"--wd={cwd}", "--")

    def fill(self) -> None:
        """A real process writes until the disk is over its threshold."""
        usage = self._usage()
        n_mib = int((usage.f_blocks * FULL_SHARE - (usage.f_blocks - usage.f_bfree)) * usage.f_frsize) >> 20
        self._run("dd", "if=/dev/zero", f"of={self.mount}/fill", "bs=1M", f"count={n_mib}", "conv=fsync")

    def empty(self) -> None:
        """Take it away again."""
        self._run("rm", "-f", f"{self.mount}/fill")

    def close(self) -> None:
        """End the namespace; the mount and its loop device go with it."""
        self._keeper.kill()
        self._keeper.wait()

    def _usage(self) -> os.statvfs_result:
        return os.statvfs(f"/proc/{self._keeper.pid}/root{self.mount}")

    def _run(self, *argv: str) -> None:
        subprocess.run([*self.inside(Path("/")), *argv], check=True, timeout=60, stderr=subprocess.DEVNULL)

    def _wait_unshared(self) -> None:
        own = os.readlink("/proc/self/ns/mnt")
        while self._keeper.poll() is None:
            if os.readlink(f"/proc/{self._keeper.pid}/ns/mnt") != own:
                return
        pytest.fail(f"unshare ended with {self._keeper.returncode}")


def require_small_disk() -> None:
    """Skip where this user may not mount; CI may."""
    missing = [tool for tool in ("unshare", "nsenter", "mkfs.ext4", "dd") if shutil.which(tool) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(
            f"needs root and util-linux to mount a small disk (missing: {', '.join(missing) or 'root'})"
        )
