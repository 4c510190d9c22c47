"""What the server says behind ``+OK`` and ``-ERR``, in the languages it speaks (RFC 6856 §3).

One table: a text for each key and language. Texts are for people; programs look at the status indicator and
at the response code, which stand in front of them and are the same in every language.
"""

__all__ = ["LANGUAGES", "PREFERRED", "choose", "phrase"]

LANGUAGES = {"en": "English", "fr": "Français"}
"""Tags, and what each language calls itself."""

PREFERRED = "en"
"""Before LANG, and for ``LANG *``: English needs no more than ASCII, which is all that may be said then."""


def choose(language_range: str) -> str | None:
    """The language for a range: itself, or what is left of it from the end on (RFC 4647 §3.4)."""
    if language_range == "*":
        return PREFERRED
    wanted = language_range.lower()
    while wanted and wanted not in LANGUAGES:
        wanted = wanted.rpartition("-")[0]
    return wanted or None


def phrase(language: str, key: str, **facts: object) -> str:
    """The text for a key."""
    return _TEXTS[key][language].format(**facts)


def _texts(*rows: tuple[str, str, str]) -> dict[str, dict[str, str]]:
    return {key: {"en": english, "fr": french} for key, english, french in rows}


_TEXTS = _texts(
    ("ready", "{name} POP3 server ready", "{name} serveur POP3 prêt"),
    ("capabilities", "Capability list follows", "Voici la liste des capacités"),
    ("languages", "Language listing follows:", "Voici la liste des langues :"),
    ("language", "Language changed", "Langue changée"),
    ("utf8", "UTF8 enabled", "UTF8 activé"),
    ("tls", "Begin TLS", "Commencez TLS"),
    ("send-pass", "Send PASS", "Envoyez PASS"),
    ("messages", "{count} messages", "{count} messages"),
    ("octets", "{count} octets", "{count} octets"),
    ("top", "Top of message follows", "Voici le début du message"),
    ("deleted", "Deleted", "Supprimé"),
    ("bye", "Bye", "Au revoir"),
    ("bye-removed", "Bye, {count} removed", "Au revoir, {count} supprimés"),
    # What the client did wrong.
    ("unknown-command", "Unknown command", "Commande inconnue"),
    ("not-before-login", "Log in first", "Identifiez-vous d'abord"),
    ("not-after-login", "Only before the login", "Seulement avant l'identification"),
    ("arguments", "Wrong number of arguments", "Mauvais nombre d'arguments"),
    ("number", "Not a number that can be meant here", "Ce n'est pas un nombre qui convient ici"),
    ("line-too-long", "Line too long", "Ligne trop longue"),
    (
        "line-flawed",
        "Line holds a bare CR or LF, or a NUL",
        "La ligne contient un CR ou un LF isolé, ou un NUL",
    ),
    (
        "foreign",
        "This is a mail server, closing connection",
        "Ceci est un serveur de courrier, fin de la connexion",
    ),
    ("junk", "Too much junk", "Trop de commandes insensées"),
    ("no-such-message", "No such message", "Message inexistant"),
    ("is-deleted", "That message is deleted", "Ce message est supprimé"),
    ("no-such-language", "No such language here", "Langue inconnue ici"),
    ("utf8-before-tls", "STLS has to go before UTF8", "STLS doit précéder UTF8"),
    ("tls-on", "TLS is on already", "TLS est déjà actif"),
    ("no-tls", "TLS is not available", "TLS n'est pas disponible"),
    ("tls-first", "Use STLS before logging in", "Utilisez STLS avant de vous identifier"),
    ("user-first", "Send USER first", "Envoyez d'abord USER"),
    (
        "user-again",
        "USER was given, PASS had to follow; begin again",
        "USER avait été donné, PASS devait suivre ; recommencez",
    ),
    ("no-such-mechanism", "No such mechanism", "Mécanisme inconnu"),
    ("bad-response", "That is no valid response", "Cette réponse n'est pas valide"),
    ("cancelled", "Cancelled", "Annulé"),
    # Why a login fails.
    ("wrong-login", "Wrong name or password", "Nom ou mot de passe incorrect"),
    ("locked-out", "Too many failed logins, try again later", "Trop d'échecs, réessayez plus tard"),
    (
        "in-use",
        "Another session has the maildrop, try again later",
        "Une autre session occupe la boîte, réessayez plus tard",
    ),
    (
        "too-early",
        "The last login was less than {count} seconds ago",
        "La dernière session date de moins de {count} secondes",
    ),
    ("no-maildrop", "This account has no maildrop", "Ce compte n'a pas de boîte"),
    (
        "no-access",
        "Maildrop not available now, try again later",
        "Boîte indisponible pour l'instant, réessayez plus tard",
    ),
    # What else goes wrong.
    ("unreadable", "Message cannot be read", "Le message ne peut pas être lu"),
    (
        "not-removed",
        "Some deleted messages could not be removed",
        "Des messages supprimés n'ont pas pu être effacés",
    ),
    ("trouble", "Internal trouble, try again later", "Panne interne, réessayez plus tard"),
    ("too-many", "Too many connections, try again later", "Trop de connexions, réessayez plus tard"),
    ("stopping", "Server is stopping, try again later", "Le serveur s'arrête, réessayez plus tard"),
)
