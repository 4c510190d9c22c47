"""``twistd mailserver``: the plugin through which twistd finds the server."""

from twisted.application.service import ServiceMaker

mailserver = ServiceMaker(
    "mailserver",
    "mailserver.service",
    "A classic mail server: relay, delivery queue, virtual domains, POP3.",
    "mailserver",
)
