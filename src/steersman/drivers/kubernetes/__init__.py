"""The kubernetes driver: a cluster's nodes, workloads, queues and devices, and drains, scalings and restarts.

- `access`, `kubeconfig`   where the API server is and as whom to speak to it;
- `client`                 the API: reads, lists by page, watches, changes;
- `reflector`              one kind of resource kept in step with the server, between looks;
- `fake`                   an API server in a box, with the protocol's own semantics.
"""
