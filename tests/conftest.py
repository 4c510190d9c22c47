"""What holds for all tests."""

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("mailserver", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mailserver")


@pytest.fixture(scope="session", autouse=True)
def _elsewhere() -> Iterator[None]:
    """Run in a directory that goes with the tests: ``mktemp()`` of twisted.trial writes to the current one."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(prefix="mailserver-tests-") as directory:
        os.chdir(directory)
        yield
        os.chdir(before)
