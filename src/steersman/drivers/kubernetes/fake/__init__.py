"""A Kubernetes API server in a box: the protocol's semantics, on loopback, and what can go wrong with it.

`storage` is its etcd, `objects` the rules of writing, `reading` lists by page, `watching` the streams,
`server` the whole. `controllers` are small stand-ins for what makes a status follow a spec.
"""

from steersman.drivers.kubernetes.fake.controllers import ALL, count_disruptions, end_pods, follow_replicas
from steersman.drivers.kubernetes.fake.server import FakeApiServer

__all__ = ["ALL", "FakeApiServer", "count_disruptions", "end_pods", "follow_replicas"]
