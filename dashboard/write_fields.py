"""Writes src/lib/fields.json: what each field of each entity type is, from `steersman.kinds.fields`.

The dashboard shows units and meanings in tables where asking the server for each would be slow. Run this
after a field is added or changed: `python dashboard/write_fields.py`. tests/dashboard holds the file current.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from steersman.kinds.fields import FIELDS

TARGET = Path(__file__).parent / "src" / "lib" / "fields.json"


def render_fields() -> str:
    """The file's text: {type: {field: {type, unit, pace, doc}}} in order of declaration."""
    table = {
        entity_type.value: {
            name: {
                "type": spec.type.__name__,
                "unit": spec.unit,
                "pace": spec.pace,
                "doc": spec.description,
            }
            for name, spec in specs.items()
        }
        for entity_type, specs in FIELDS.items()
    }
    return json.dumps(table, indent=1) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(TARGET.read_text("utf-8") != render_fields())
    TARGET.write_text(render_fields(), "utf-8")
