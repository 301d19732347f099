"""Drivers: one folder for each outside system, each with the same inner shape.

- `client.py`  speaks the system's protocol, and is the only module that imports its library;
- `observe.py` is the driver itself: it turns answers into fragments, with pure modules beside it;
- `act.py`     carries out operations, where the system can be acted on;
- `fake.py`    the system in a box, for tests and trials: it passes the same suite as the real one.

A driver imports `kernel`, `kinds` and what drivers share, never another driver: `api` is their one shape,
`lane` a thread for what blocks, `web` the client of those that speak HTTP, `exposition` the reading of
metrics. They are found by the entry-point group `steersman.drivers`; the built-in ones come the same way.
docs/how-to/add-a-driver.md is the checklist.
"""
