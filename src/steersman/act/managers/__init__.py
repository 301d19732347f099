"""What bringing one resource where it is meant to be takes, kind by kind."""

from __future__ import annotations
