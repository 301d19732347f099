"""Intake: schedules the drivers, judges the sources, takes pushed fragments, and feeds the bus."""
