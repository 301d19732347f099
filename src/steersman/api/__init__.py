"""REST, server-sent events, metrics, auth; serves the built dashboard."""
