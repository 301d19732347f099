"""What operations leave on what they change: `steersman:<operation> e<epoch> <text> (<resource>)`.

On a node it is the drain's reason, on a job its AdminComment. It says whose the change is (only that is taken
back), and under which epoch of which resource it was made (an older one is refused: the fence).
"""

from __future__ import annotations

import re

from msgspec import Struct

from steersman.kinds.step import StepCall

OUR_TAG = "steersman:"
"""How a tag begins."""
ADDED = " : "
"""What Slurm puts between a reason and what it adds to it. Our own text never has it."""

JOINT = "; "
"""What joins the parts of a job's AdminComment."""

_TAG = re.compile(
    r"steersman:(?P<operation>\S{1,256}) e(?P<epoch>\d{1,18})(?![^\s])"
    r"(?: (?P<text>.*?))??(?: \((?P<resource>[^\s()]+/[^()]+)\))?(?P<added> : .*)?",
    re.DOTALL,
)


class Tag(Struct, frozen=True):
    """One tag. `resource` is empty where the tag names none, `added` is what Slurm wrote behind it."""

    operation: str
    epoch: int
    text: str = ""
    resource: str = ""
    added: str = ""

    def __str__(self) -> str:
        words = [f"{OUR_TAG}{self.operation}", f"e{self.epoch}", self.text]
        words.append(f"({self.resource})" if self.resource else "")
        return " ".join(word for word in words if word)

    def is_of(self, call: StepCall) -> bool:
        """Whether it is of the resource of a call, as far as it tells."""
        return self.resource in ("", str(call.resource))

    def is_own(self, call: StepCall) -> bool:
        """Whether the operation of a call left it, under the call's epoch."""
        return self.is_of(call) and (self.operation, self.epoch) == (call.operation, call.epoch)

    def overtakes(self, call: StepCall) -> bool:
        """Whether a newer epoch of the same resource left it. Epochs of two resources can't be compared."""
        return self.is_of(call) and self.epoch > call.epoch


def tag_for(call: StepCall, text: str) -> Tag:
    """The tag of a call."""
    said = text.replace(ADDED, ": ").replace('"', "'").strip()  # scontrol takes a quote at the end away
    return Tag(call.operation, call.epoch, said, str(call.resource))


def read_tag(reason: str | None) -> Tag | None:
    """The tag that a reason is; None where it is somebody else's."""
    match = _TAG.fullmatch(reason) if reason is not None else None
    if match is None:
        return None
    parts = match.groupdict(default="")
    return Tag(
        parts["operation"],
        int(parts["epoch"]),
        parts["text"].strip(),
        parts["resource"],
        parts["added"].removeprefix(ADDED),
    )


def find_tag(comment: str | None) -> tuple[str, Tag | None]:
    """What of a comment is somebody else's, and the last tag among it; `; ` joins them."""
    parts = [part for part in (comment or "").split(JOINT) if part.strip()]
    tags = {index: tag for index, part in enumerate(parts) if (tag := read_tag(part)) is not None}
    theirs = JOINT.join(part for index, part in enumerate(parts) if index not in tags)
    return theirs, next(reversed(tags.values()), None)
