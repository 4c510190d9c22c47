"""When a delayed message is tried again, and when it is given up: pure functions of times.

All times are seconds; points in time are seconds since 1970. RFC 5321 §4.5.4.1 asks for at least 30
minutes between attempts on one destination "in general" and 4 to 5 days before giving up; the first
waits of the default schedule are shorter, as every present-day server's are.
"""

from attrs import frozen

__all__ = ["Schedule"]


@frozen
class Schedule:
    """The retry schedule of a route.

    :ivar waits: the wait after the first, second … failed attempt; the last one repeats. Not empty.
    :ivar lifetime: how long after arrival a message is still tried.
    :ivar warn_after: how long after arrival a "still trying" report is due; 0 means never.
    """

    waits: tuple[float, ...]
    lifetime: float
    warn_after: float

    def next_attempt(self, attempts: int, arrived: float, now: float) -> float:
        """When to try again after ``attempts`` (at least 1) attempts have been made, the last one now.

        The last attempt is never later than the end of the lifetime, so that a long last wait does not
        shorten it.
        """
        due = now + self.waits[min(attempts, len(self.waits)) - 1]
        end = arrived + self.lifetime
        return end if now < end < due else due

    def is_over(self, arrived: float, now: float) -> bool:
        """Whether a message that is still delayed now is given up."""
        return now >= arrived + self.lifetime

    def owes_warning(self, arrived: float, now: float) -> bool:
        """Whether the sender of a message still waiting now is owed a delay report."""
        return self.warn_after > 0 and now >= arrived + self.warn_after
