"""Which names of which sources are one thing, and which life of it (decision 0042)."""
