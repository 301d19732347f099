"""Builds the dashboard into the package. Filled with the dashboard."""
