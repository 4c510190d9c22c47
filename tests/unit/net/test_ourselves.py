"""Which addresses are this machine's own."""

import pytest

from mailserver.net.ourselves import is_our_address


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("192.0.2.1", False), ("2001:db8::1", False), ("::ffff:", False)],
)
def test_the_kernel_knows(address, own):
    assert is_our_address(address) is own
