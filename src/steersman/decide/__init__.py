"""Policies to recommendations. Pure: no I/O, no clock, no random.

Empty until the decide loop is built; docs/architecture.md names what will live here.
"""
