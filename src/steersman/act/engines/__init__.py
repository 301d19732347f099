"""Engines that carry out the phases of a lifecycle."""

from __future__ import annotations
