"""The whole plane on a virtual clock, with a simulated fleet, network and faults.

Empty until the act loop is built; docs/architecture.md names what will live here.
"""
