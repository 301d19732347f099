"""What the tests of drains that are killed share: `steersman up` on the lifecycle that the guide shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from loop_story import type_ok
from plane_calls import ask

Up = Callable[..., Any]

KILL_TIMEOUT_S = 40.0
END_TIMEOUT_S = 60.0
STORY = ["in_service", "draining", "maintenance", "returning", "in_service"]
KEPT_OUT = ["in_service", "draining", "maintenance", "returning", "maintenance"]
GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-lifecycle.md"


class Plane:
    """`steersman up` over its lives: one source, nodes of these names, and what the source calls them
    where it does otherwise."""

    def __init__(
        self,
        up: Up,
        folder: Path,
        source: dict[str, Any],
        lifecycle: str,
        names: Iterable[str],
        called: Mapping[str, str],
    ) -> None:
        self.up = up
        self.config = folder / "steersman.yaml"
        aliases = {f"node/{other}": f"node/{name}" for name, other in called.items()}
        settings = {"sources": [source], "identity": {"aliases": aliases}, "policies": []}
        self.config.write_text(json.dumps({**settings, "lifecycles": ["lifecycles"]}))
        (folder / "lifecycles").mkdir()
        (folder / "lifecycles" / "gpu-nodes.yaml").write_text(lifecycle)
        self.running = up("-c", str(self.config)).wait_healthy()
        document = self.running.home / "nodes.yaml"
        nodes = [{"kind": "Node", "id": name, "lifecycle": "gpu-nodes"} for name in names]
        document.write_text("\n---\n".join(map(json.dumps, nodes)))
        type_ok(self.running, "apply", "-f", str(document))

    def start_again(self) -> None:
        """Once it is dead. It may be killed again before it is healthy."""
        self.running.process.wait(KILL_TIMEOUT_S)
        home, port = self.running.home, self.running.port
        self.running = self.up("-c", str(self.config), home=home, port=port)

    def want(self, state: str, *names: str, may_die: bool = False) -> None:
        for name in names:
            path = f"/api/v1/resources/node/{name}/desired-status"
            try:
                answer = ask(self.running, "PUT", path, {"status": state, "reason": "new firmware"})
            except OSError:
                if may_die:
                    return
                raise
            assert answer.status in (200, 201), answer

    def until_is(self, state: str, *names: str, told: str = "") -> None:
        for name in names:
            self.running.until(lambda name=name: self.status(name) == state, f"{name} {told}", END_TIMEOUT_S)

    def status(self, name: str) -> str:
        return str(self.running.get(f"/api/v1/resources/node/{name}")["status"])

    def history(self, name: str) -> list[dict[str, Any]]:
        path = f"/api/v1/resources/node/{name}/history?limit=1000"
        items: list[dict[str, Any]] = self.running.get(path)["items"]
        return items


def guide_lifecycle() -> str:
    """The guide's own, with waits of a fraction of a second in place of minutes."""
    (text,) = re.findall(r"^```yaml\n(name: gpu-nodes\n.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    quick, count = re.subn(r"delay: \d+[sm]", "delay: 200ms", text)
    assert count == 2
    return str(quick)
