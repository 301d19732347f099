"""Health by versioned rule tables (decision 0010): the tables are the YAML files beside this module."""

from __future__ import annotations
