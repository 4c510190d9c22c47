"""The servers that are measured: this one, and its peers where their packages are installed.

All have the same users and domains, so that the same load fits each of them:

- ``u00`` … ``u9999`` live in ``bench.test``, with the password ``pass``, kept as such (``{PLAIN}``): what a
  costly hash costs is the same everywhere, and would hide everything else.
- Mail for ``sink.test``, and any other domain, goes to the sink.
- Mail for ``queue.test`` is accepted and stays in the queue.
"""
