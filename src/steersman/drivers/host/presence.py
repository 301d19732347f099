"""Whether this machine has accelerators at all, asked of the kernel and not of a driver library.

"No GPU" and "no way to tell" are different facts: without NVML a count of zero is claimed only where the
kernel shows that there is nothing to count.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

PCI_DEVICES_MAX = 65_536

_NVIDIA = "0x10de"
_GPU_MAKERS = frozenset({_NVIDIA, "0x1002"})  # NVIDIA, AMD
_DISPLAY_3D = "0x0302"
_DISPLAY = ("0x0300", "0x0380")
_ACCELERATOR = "0x1200"


class Presence(Struct, frozen=True):
    """What the kernel shows. `known` is False where it shows nothing either way (no /sys to look into).

    `accelerators` says what was found, e.g. a device file or a PCI address; `nvidia_bound` counts the NVIDIA
    devices on the bus that its own driver holds (those handed to a virtual machine are not counted).
    """

    known: bool
    accelerators: tuple[str, ...] = ()
    nvidia_bound: int | None = None


def look_for_accelerators(root: Path = Path("/")) -> Presence:
    """Search device files, the driver's /proc folder and the PCI bus below `root`. Blocks briefly."""
    found = [
        str(Path("/") / path.relative_to(root)) for path in sorted((root / "dev").glob("nvidia[0-9]*"))[:8]
    ]
    found += [f"/{name}" for name in ("proc/driver/nvidia", "dev/kfd") if (root / name).exists()]
    bus = root / "sys/bus/pci/devices"
    if not bus.is_dir():
        # A kernel without the bus has no PCI GPU; a container without /sys can't say.
        return Presence(known=(root / "sys/bus").is_dir() or bool(found), accelerators=tuple(found))
    bound = 0
    for count, device in enumerate(sorted(bus.iterdir())):
        if count >= PCI_DEVICES_MAX:
            break
        kind, maker = _read(device / "class")[:6], _read(device / "vendor")
        if kind in (_DISPLAY_3D, _ACCELERATOR) or (kind in _DISPLAY and maker in _GPU_MAKERS):
            found.append(f"PCI {device.name}")
            held_by = device / "driver"
            bound += maker == _NVIDIA and held_by.exists() and held_by.resolve().name == "nvidia"
    return Presence(known=True, accelerators=tuple(found), nvidia_bound=bound)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
