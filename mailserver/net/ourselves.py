"""Whether an IP address is this machine's own, on whatever interface.

The kernel is asked how it would go there: to an address of its own it goes from that very address. Nothing
is sent, nothing waits, and interfaces that come and go are seen at once. What there is no way to is not
ours.
"""

import socket

__all__ = ["is_our_address"]

_DISCARD = 9


def is_our_address(address: str) -> bool:
    """Ask the kernel. ``address`` is an IP address as text."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, _DISCARD))
            own: str = probe.getsockname()[0]
    except OSError:
        return False
    return own == address
