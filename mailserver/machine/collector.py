"""What Python's garbage collector need not look at: what is built at the start, and most of the rest.

What comes and goes with messages and sessions ends by itself: it need not be looked at every 700 objects.
"""

import gc

__all__ = ["keep_what_is_built"]

_NEW_OBJECTS = 10_000
"""The collector looks at the new ones whenever there are so many."""


def keep_what_is_built() -> None:
    """Have the collector pass over all that was made up to here, for it stays as long as we do."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 10)
