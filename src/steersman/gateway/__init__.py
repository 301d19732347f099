"""Model routing and the OpenAI-compatible data plane.

Empty until the gateway is built; docs/architecture.md names what will live here.
"""
