"""Slurm's lists of hosts: `gpu[01-16,20],login1` and the like, written out one by one.

Brackets hold numbers and ranges; leading zeros count (`n[08-10]` is n08, n09, n10), several brackets multiply
(`x[1-2]y[3-4]` are four), and a bracket may be followed by more text. Brackets in brackets are not Slurm's.
"""

from __future__ import annotations

import re

from steersman.kernel.errors import InvalidInput

HOSTS_MAX = 200_000
"""Hosts of one list: Slurm stops at 64k in one bracket; the largest clusters have tens of thousands."""
TEXT_MAX_CHARS = 4 * 1024 * 1024
DIMENSIONS_MAX = 8
"""Brackets in one expression. Slurm allows as many dimensions as a torus has (at most five)."""

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")


class HostListInvalid(InvalidInput, ValueError):
    """A text is no list of hosts."""

    code = "host_list_invalid"
    title = "Host list invalid"


def expand_hosts(text: str, hosts_max: int = HOSTS_MAX) -> tuple[str, ...]:
    """The hosts of a list in the order of the text, each once. Raises `HostListInvalid`."""
    if len(text) > TEXT_MAX_CHARS:
        raise HostListInvalid(f"a list of hosts has at most {TEXT_MAX_CHARS} characters")
    hosts: dict[str, None] = {}
    for item in _split(text):
        for host in _expand_item(item, hosts_max):
            hosts[host] = None
        if len(hosts) > hosts_max:
            raise HostListInvalid(f"the list names more than {hosts_max} hosts")
    return tuple(hosts)


def _split(text: str) -> list[str]:
    """The expressions between commas that stand in no bracket."""
    items: list[str] = []
    start = 0
    inside = False
    for index, char in enumerate(text):
        if char == "[":
            if inside:
                raise HostListInvalid(f"a bracket in a bracket at character {index}")
            inside = True
        elif char == "]":
            if not inside:
                raise HostListInvalid(f"a bracket is closed that was not opened, at character {index}")
            inside = False
        elif char == "," and not inside:
            items.append(text[start:index])
            start = index + 1
    if inside:
        raise HostListInvalid("a bracket is not closed")
    items.append(text[start:])
    return [item for item in (item.strip() for item in items) if item]


def _expand_item(item: str, hosts_max: int) -> list[str]:
    parts = re.split(r"\[([^\[\]]*)\]", item)
    if any(char.isspace() for char in item):
        raise HostListInvalid("white space in the name of a host")
    if len(parts) // 2 > DIMENSIONS_MAX:
        raise HostListInvalid(f"more than {DIMENSIONS_MAX} brackets in one expression")
    hosts = [parts[0]]
    for index in range(1, len(parts), 2):
        numbers = _numbers(parts[index], hosts_max)
        if len(hosts) * len(numbers) > hosts_max:
            raise HostListInvalid(f"the list names more than {hosts_max} hosts")
        hosts = [f"{host}{number}{parts[index + 1]}" for host in hosts for number in numbers]
    return hosts


def _numbers(text: str, hosts_max: int) -> list[str]:
    numbers: list[str] = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item.strip())
        if match is None:
            raise HostListInvalid(f"{item[:40]!r} is neither a number nor a range")
        first, last = match.group(1), match.group(2) or match.group(1)
        low, high = int(first), int(last)
        if high < low:
            raise HostListInvalid(f"the range {item[:40]!r} runs backwards")
        if len(numbers) + high - low >= hosts_max:
            raise HostListInvalid(f"the list names more than {hosts_max} hosts")
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        numbers += [f"{number:0{width}d}" for number in range(low, high + 1)]
    return numbers
