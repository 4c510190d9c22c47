"""kill -9 at any moment: every message that was acknowledged is there, whole; settlements are all or nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VICTIM = Path(__file__).with_name("spool_victim.py")


@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost(tmp_path, seed):
    done = subprocess.run(
        [sys.executable, str(VICTIM), str(tmp_path / "spool"), "12", str(seed)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("12 kills")
