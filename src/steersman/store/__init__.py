"""The one store: a revisioned key-value log with compare-and-swap, watch, leases and compaction."""
