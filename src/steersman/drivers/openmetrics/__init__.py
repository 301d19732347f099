"""The openmetrics driver."""
