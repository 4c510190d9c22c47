"""Where accepted mail waits, durably, until it is delivered or given up. Floor 3.

:mod:`~mailserver.spool.store` is the way in. Behind it:

===============  ==================================================================================
``draft.py``     a message being received: :class:`~mailserver.interfaces.IDraft`
``body.py``      its content, in memory while small, else streaming to a file
``disk.py``      the few things asked of the file system, in one place that a test can break
``writer.py``    the thread that commits: all that waits in one transaction
``reader.py``    the thread that reads: what is due, and its content
``claims.py``    which messages are taken, by either of the two
``taken.py``     duties, and where they stand in the database
``content.py``   stored content: :class:`~mailserver.interfaces.IContent`
``listing.py``   what the queue tools show, without a server
``selecting.py`` which mail their filters mean
``orders.py``    what the administrator orders, as changes of the database
``history.py``   what became of mail that is gone; a database of its own
``story.py``     all that is known of one message when it goes
``recent.py``    what was committed lately, still in memory
``rows.py``      envelopes and outcomes as rows, and back
``schema.py``    the tables
``trouble.py``   what an error of the disk or the database means
``mending.py``   a damaged database: found, set aside, its readable messages saved
``opening.py``   what is done to the directory before the server serves
===============  ==================================================================================
"""

__all__: list[str] = []
