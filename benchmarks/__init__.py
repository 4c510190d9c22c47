"""How fast this server is, beside Postfix and Dovecot, in one run on one machine: ``make bench``."""
