"""What a tree of processes costs, read from ``/proc``."""

import os
import subprocess
import sys

from benchmarks.processes import cpu_seconds, descendants, memory

# A child that has worked and ended, and one that lives: both are the parent's.
_FAMILY = """
import subprocess, sys
work = "x = 0\\nfor i in range(3_000_000): x += i"
subprocess.run([sys.executable, "-c", work])
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.read()
child.terminate()
child.wait()
"""


def test_a_tree_is_charged_for_those_below_it_and_those_that_have_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert descendants(parent.pid) == [parent.pid, child]
        assert cpu_seconds(parent.pid) > cpu_seconds(child) + 0.05
        assert memory(parent.pid).own > memory(child).own > 0
        parent.stdin.close()


def test_a_process_that_is_gone_costs_nothing() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    assert cpu_seconds(gone.pid) == 0
    assert memory(gone.pid).own == 0
    assert os.getpid() in descendants(os.getppid())
