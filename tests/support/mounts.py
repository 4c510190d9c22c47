"""A made-up machine that says what an open file lies on."""

from pathlib import Path

__all__ = ["MountingMachine"]


class MountingMachine:
    """What ``/proc`` says of a file that is open as 5, below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/self/fdinfo/5", "pos:\t0\nflags:\t02\nmnt_id:\t27\n")

    def put(self, path: str, text: str) -> None:
        """Write a file of the system's."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def mount(self, line: str) -> None:
        """Mount it by this line of ``mountinfo``."""
        self.put("proc/self/mountinfo", f"26 27 0:6 / /dev rw - devtmpfs devtmpfs rw\n{line}\n")
