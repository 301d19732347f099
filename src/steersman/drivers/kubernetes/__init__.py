"""The kubernetes driver: a cluster's nodes, workloads, queues and devices, and drains, scalings and restarts.

- `access`, `kubeconfig`   where the API server is and as whom to speak to it;
- `client`                 the API: reads, lists by page, watches, changes;
- `reflector`              one kind of resource kept in step with the server, between looks;
- `objects`, `addons`      what is read of each kind; `nodes`, `jobs`, `devices`, ... what that means;
- `picture`                all objects together, and the facts that follow from them;
- `observe`, `act`         the driver;
- `fake`                   an API server in a box, with the protocol's own semantics.
"""

from steersman.drivers.kubernetes.observe import KubernetesDriver
from steersman.drivers.kubernetes.options import KubernetesOptions

__all__ = ["KubernetesDriver", "KubernetesOptions"]
