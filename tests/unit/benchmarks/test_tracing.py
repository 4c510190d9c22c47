"""The law held against traces: those that keep it, and those that break it in one place."""

import pytest

from benchmarks.tracing import Audit, audit, calls

ID = "23819SD7M5PDC3CDK"
OTHER = "23819SD7PY96RF7JH"
TMP, NEW = "/var/mail/b/u00/tmp/1.host", "/var/mail/b/u00/new/1.host,S=1"

MADE = f'7  openat(AT_FDCWD, "{TMP}", O_WRONLY|O_CREAT|O_EXCL, 0600) = 24<{TMP}>'
WRITTEN = f'7  write(24<{TMP}>, "Received: by mx with ESMTP id {ID};\\n\\tMon", 40) = 40'
SYNCED = f"7  fsync(24<{TMP}>) = 0"
LINKED = f'7  link("{TMP}", "{NEW}") = 0'
SETTLED = "7  fsync(25</var/mail/b/u00/new>) = 0"
WHOLE = "7  syncfs(25</var/mail>) = 0"
REPLY = f'5  sendto(21<TCP:[127.0.0.1:25->127.0.0.1:99]>, "250 2.0.0 Ok: queued as {ID}\\r\\n", 43, 0, NULL, 0) = 43'
DELIVERED = [MADE, WRITTEN, SYNCED, LINKED, SETTLED, REPLY]

WAL = "/var/spool/spool.db-wal"
BODY = "/var/spool/bodies/1"


def logged(*ids: str) -> str:
    return f'7  pwrite64(11<{WAL}>, "\\r\\0\\3{"".join(ids)}\\0<alice@example.lan>", 4096, 32) = 4096'


FLUSHED = f"7  fdatasync(11<{WAL}>) = 0"


def held(lines: list[str]) -> Audit:
    return audit(calls(lines))


def without(*lines: str) -> list[str]:
    return [line for line in DELIVERED if line not in lines]


def test_a_delivery_that_is_durable_before_its_reply_keeps_the_law() -> None:
    found = held(DELIVERED)
    assert (found.acknowledged, found.broken) == (1, [])
    assert found.syncs == {"fsync": 2}


@pytest.mark.parametrize(
    ("lines", "trouble"),
    [
        (without(MADE, WRITTEN, SYNCED, LINKED, SETTLED), "was acknowledged and written nowhere"),
        (without(SYNCED), f"{TMP} was not synced before the reply"),
        (without(SETTLED), "/var/mail/b/u00/new was not synced before the reply"),
        (without(LINKED), f"{TMP} had no other name before the reply"),
        ([MADE, SYNCED, WRITTEN, LINKED, SETTLED, REPLY], f"{TMP} was not synced before the reply"),
        (
            [MADE, WRITTEN, SYNCED, SETTLED, LINKED, REPLY],
            "/var/mail/b/u00/new was not synced before the reply",
        ),
        ([*without(REPLY, SETTLED), REPLY, SETTLED], "/var/mail/b/u00/new was not synced before the reply"),
    ],
)
def test_what_is_missing_or_comes_too_late_is_told(lines: list[str], trouble: str) -> None:
    assert held(lines).broken == [f"{ID}: {trouble}"]


def test_a_sync_of_the_whole_file_system_covers_all_that_was_before_it() -> None:
    assert held([MADE, WRITTEN, WHOLE, LINKED, WHOLE, REPLY]).broken == []
    assert held([MADE, WRITTEN, LINKED, WHOLE, REPLY]).broken == []
    assert len(held([MADE, WRITTEN, WHOLE, LINKED, REPLY]).broken) == 1


def test_content_that_was_only_written_back_is_not_durable() -> None:
    back = f"7  sync_file_range(24<{TMP}>, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE|SYNC_FILE_RANGE_WRITE) = 0"
    trouble = [f"{ID}: {TMP} was not synced before the reply"]
    assert held([MADE, WRITTEN, back, LINKED, SETTLED, REPLY]).broken == trouble
    assert held([MADE, WRITTEN, back, LINKED, SYNCED, SETTLED, REPLY]).broken == []
    assert held([MADE, WRITTEN, back, LINKED, WHOLE, REPLY]).broken == []


def test_a_file_that_was_moved_is_synced_by_its_new_name() -> None:
    moved = f'7  renameat2(AT_FDCWD</>, "{TMP}", AT_FDCWD</>, "{NEW}", RENAME_NOREPLACE) = 0'
    synced = SYNCED.replace(TMP, NEW)
    assert held([MADE, WRITTEN, moved, synced, SETTLED, REPLY]).broken == []
    assert held([MADE, WRITTEN, SYNCED, moved, SETTLED, REPLY]).broken == []
    trouble = [f"{ID}: {TMP} was not synced before the reply"]
    assert held([MADE, WRITTEN, moved, synced.replace("/u00/", "/u01/"), SETTLED, REPLY]).broken == trouble
    assert len(held([MADE, WRITTEN, moved, synced, REPLY]).broken) == 1


def test_a_sync_that_failed_covers_nothing() -> None:
    failed = SYNCED.replace("= 0", "= -1 EIO (Input/output error)")
    assert held([MADE, WRITTEN, failed, LINKED, SETTLED, REPLY]).broken == [
        f"{ID}: {TMP} was not synced before the reply"
    ]


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        # Begun before the write had ended, or not ended before the reply was begun: it proves nothing.
        ([f"8  fsync(24<{TMP}> <unfinished ...>", WRITTEN, "8  <... fsync resumed>) = 0"], False),
        ([WRITTEN, f"8  fsync(24<{TMP}> <unfinished ...>", REPLY, "8  <... fsync resumed>) = 0"], False),
        ([WRITTEN, f"8  fsync(24<{TMP}> <unfinished ...>", "8  <... fsync resumed>) = 0"], True),
    ],
)
def test_a_sync_counts_from_its_beginning_to_its_end(lines: list[str], kept: bool) -> None:
    late = [] if REPLY in lines else [REPLY]
    found = held([MADE, *lines, LINKED, SETTLED, *late])
    assert any(f"{TMP} was not synced" in trouble for trouble in found.broken) is not kept


def test_in_the_log_of_a_database_the_first_write_of_a_message_counts() -> None:
    # The page is written again for the next message while the first one's reply is on its way.
    assert held([logged(ID), FLUSHED, logged(ID, OTHER), REPLY]).broken == []
    assert held([FLUSHED, logged(ID), REPLY]).broken == [f"{ID}: {WAL} was not synced before the reply"]


def test_the_directory_of_a_file_of_its_own_has_to_be_durable() -> None:
    body = [
        f'7  openat(AT_FDCWD, "{BODY}", O_WRONLY|O_CREAT, 0600) = 9<{BODY}>',
        f'7  write(9<{BODY}>, "id {ID}\\r\\n", 9) = 9',
        f"7  fsync(9<{BODY}>) = 0",
    ]
    settled = "7  fsync(10</var/spool/bodies>) = 0"
    assert held([*body, settled, logged(ID), FLUSHED, REPLY]).broken == []
    assert held([*body, logged(ID), FLUSHED, REPLY]).broken == [
        f"{ID}: /var/spool/bodies was not synced before the reply"
    ]


def test_a_log_is_no_home_to_a_message() -> None:
    told = f'7  write(2</var/server.log>, "accepted {ID}\\n", 9) = 9'
    assert held([told, REPLY]).broken == [f"{ID}: was acknowledged and written nowhere"]
    assert held([*without(REPLY), told, REPLY]).broken == []


def test_every_reply_of_one_write_counts() -> None:
    both = REPLY.replace(f"{ID}\\r\\n", f"{ID}\\r\\n250 2.0.0 Ok: queued as {OTHER}\\r\\n")
    found = held([logged(ID, "\\0", OTHER), FLUSHED, both])
    assert (found.acknowledged, found.broken) == (2, [])


def test_lines_that_are_no_calls_are_passed_over() -> None:
    assert held(["", "7  +++ exited with 0 +++", "strace: Process 8 attached"]) == Audit()
