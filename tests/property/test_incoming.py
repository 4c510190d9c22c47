"""Whatever a message holds and however it comes, its file and the sizes in its name say the same."""

import itertools
import re
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mailserver.mailboxes.incoming import Copy, Incoming, commit
from mailserver.mailboxes.maildir import THE_DISK, prepare
from mailserver.mailboxes.quota import Limit
from mailserver.wire.dots import WireForm

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"\0", b"\r\n\r\n", b"word"]), max_size=20
)
NUMBERS = itertools.count()
BOX = Path(tempfile.mkdtemp(prefix="mailserver-test-")) / "box"


def deliver(pieces: list[bytes], at_once: bool, is_in_pairs: bool = False) -> Path:
    prepare(BOX, THE_DISK, lambda what, path: None)
    copy = Copy(BOX, f"{next(NUMBERS)}.x", Limit())
    incoming = Incoming([copy], THE_DISK, b"".join(pieces) if at_once else None, is_in_pairs=is_in_pairs)
    if not at_once:
        incoming.begin(100)
        for piece in pieces:
            incoming.write(piece)
    assert commit([incoming], THE_DISK, lambda box: None) == [[None]]
    (path,) = (BOX / "new").glob(f"{copy.unique},*")
    return path


@given(PIECES, st.booleans())
@example([b"a\r\n", b"\n"], False)
@example([b"\r", b"\n"], False)
@example([b"\r\r", b"\n", b"\r\n"], False)
@example([b"a\r\nb\r"], True)
def test_the_file_and_its_name(pieces: list[bytes], at_once: bool) -> None:
    check(deliver(pieces, at_once), b"".join(pieces))


@given(st.lists(st.sampled_from([b"\r\n", b"a", b".", b"\0", b"\r\n\r\n", b"word"]), max_size=20))
def test_the_same_where_pairs_are_known_of(pieces: list[bytes]) -> None:
    check(deliver(pieces, at_once=True, is_in_pairs=True), b"".join(pieces))


def check(path: Path, content: bytes) -> None:
    expected = content.replace(b"\r\n", b"\n")
    stored = path.read_bytes()
    path.unlink()
    assert stored in (expected, expected + b"\n")
    assert not stored or stored.endswith(b"\n")
    sizes = re.fullmatch(r".*,S=(\d+),W=(\d+)", path.name)
    assert sizes is not None
    assert (int(sizes[1]), int(sizes[2])) == (len(stored), len(WireForm().feed(stored)))
