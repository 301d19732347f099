"""Conformance suites as importable functions, factories, virtual time. Never imported at run time."""
