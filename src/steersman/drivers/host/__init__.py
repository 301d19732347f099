"""The host driver."""
