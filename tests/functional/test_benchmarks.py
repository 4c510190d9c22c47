"""``make bench`` works: the load clients are built and measure the real program, without peers, in one short round."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
    pytest.mark.skipif(
        not Path("/usr/include/openssl/ssl.h").exists(), reason="the headers of OpenSSL are not installed"
    ),
]


@pytest.mark.timeout(300)
def test_a_short_run_measures_what_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    words = ["--quick", "--alone", "--workers", "0", "--json", str(file)]
    # One for each load client; a start of the server for each is what takes the time.
    for name in ("deliver", "relay", "handshakes", "idle-starttls", "drain"):
        words += ["--scenario", name]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads(file.read_text())
    assert len(run["results"]) == 5
    assert [result["failures"] for result in run["results"]] == [{}] * len(run["results"])
    for result in run["results"]:
        assert [sample["value"] != 0 for sample in result["samples"]["mailserver"]] == [True], result
        assert result["title"] in done.stdout


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_every_250_follows_the_sync_that_covers_it(workers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.durability", "--messages", "20", "--workers", workers],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "is it allowed to trace?" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "80 messages acknowledged, 0 of the law's demands not met" in done.stdout
