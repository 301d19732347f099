"""Watching content by hash: what the host driver and the config driver share.

No driver itself. Files are read whole or not at all, and what differs from a baseline is drift; content is
never kept.
"""
