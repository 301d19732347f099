"""The reconcile loop: observe → diff → act → record, by key, for every kind of resource."""

from __future__ import annotations
