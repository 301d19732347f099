"""Lifecycles, the reconcile loop, managers, phase engines, booking.

Empty until the act loop is built; docs/architecture.md names what will live here.
"""
