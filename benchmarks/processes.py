"""What a server costs: processor time and memory of a process and all that it has started.

From ``/proc``. A server that works with many processes is charged for all of them, for those that have ended
since, too, as far as their parents have seen them end.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

__all__ = ["Memory", "cpu_seconds", "descendants", "memory"]

_TICK = os.sysconf("SC_CLK_TCK")
_KERNEL = ("Slab", "KernelStack", "PageTables")


@frozen
class Memory:
    """Memory, in KB.

    :ivar own: of the processes, shared pages divided among those that share them (PSS).
    :ivar kernel: slab, kernel stacks and page tables of the whole machine: only differences mean something.
    """

    own: int
    kernel: int


def descendants(root: int) -> list[int]:
    """The process and all processes below it."""
    children: dict[int, list[int]] = {}
    for pid, fields in _all():
        children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree so far."""
    stats = dict(_all())
    tree = set(descendants(root))
    # utime, stime, and those of children that have been waited for: cutime, cstime (proc(5)).
    return sum(sum(map(int, stats[pid][11:15])) for pid in tree & stats.keys()) / _TICK


def memory(root: int) -> Memory:
    """Memory of the tree now."""
    own = sum(_pss(pid) for pid in descendants(root))
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return Memory(own, sum(int(size) for name, size, *_ in lines if name.rstrip(":") in _KERNEL))


def _all() -> Iterator[tuple[int, list[str]]]:
    """Each process with the fields of its ``stat`` behind the name, which may have spaces in it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
