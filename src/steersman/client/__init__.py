"""The typed client for Python, synchronous and asynchronous."""
