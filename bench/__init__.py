"""Benchmarks: ratios measured in one run on one machine. Nothing in here is a timed test."""
