"""The spine: the bus of canonical entities, its freshness, confidence and health, and its checkpoints."""
