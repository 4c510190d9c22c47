"""The spool as its two kinds of users see it, on a real disk."""

import errno
import os
import sqlite3
import stat
from functools import partial
from itertools import count

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.threadable import isInIOThread
from zope.interface.verify import verifyObject

from mailserver.interfaces import (
    IContent,
    IDraft,
    IQueue,
    ISpool,
    Settlement,
    StorageFull,
    StorageTrouble,
    Waiting,
)
from mailserver.model.address import Address
from mailserver.model.envelope import Origin, Recipient
from mailserver.spool import orders, store
from mailserver.spool.body import SMALL, WINDOW
from tests.support.spooling import ALICE, DELAYED, DELIVERED, FAILED, SpoolTestCase, rcpt

LARGE = os.urandom(SMALL + 12345)


class InterfaceTests(SpoolTestCase):
    async def test_the_seams_are_kept(self):
        verifyObject(ISpool, self.spool)
        verifyObject(IQueue, self.spool)
        verifyObject(IDraft, self.spool.draft(ALICE, ()))
        for content in (b"small\r\n", LARGE):
            envelope = await self.store("bob@example.org", content=content)
            verifyObject(IContent, await self.spool.content(envelope.id))


class StoringTests(SpoolTestCase):
    async def test_what_was_committed_is_due_with_all_its_facts(self):
        recipients = (
            Recipient(Address("bob smith", "example.org"), "rfc822;b@x", frozenset({"FAILURE", "DELAY"})),
            Recipient(Address("jürgen", "example.org"), notify=frozenset()),
            Recipient(Address('odd"@', "[IPv6:2001:db8::1]")),
        )
        draft = self.spool.draft(ALICE, recipients)
        envelope = evolve(
            self.envelope(draft.id, *recipients),
            origin=Origin("2001:db8::7", 1, "[x]", "ESMTPSA", "TLSv1.3 X", "alice@example.lan"),
            body="8BITMIME",
            smtputf8=True,
            ret="HDRS",
            envid="QQ 314159",
            marks={"spam": "no"},
            size=7,
        )
        assert draft.write(b"hello\r\n") is None
        await draft.commit(envelope)
        for _ in range(2):  # from memory, then from disk
            duties = await self.take()
            assert sorted((duty.destination, duty.waiting) for duty in duties) == [
                ("[IPv6:2001:db8::1]", (Waiting(recipients[2]),)),
                ("example.org", (Waiting(recipients[0]), Waiting(recipients[1]))),
            ]
            for duty in duties:
                assert duty.envelope == envelope
                assert duty.envelope.marks == envelope.marks
            assert await self.octets(draft.id) == b"hello\r\n"
            await self.reopen()

    async def test_the_size_recorded_is_that_of_the_content(self):
        envelope = await self.store("bob@example.org", content=b"12345")
        assert (await self.take())[0].envelope.size == 5
        assert envelope.size == 5

    async def test_large_content_is_a_file_and_comes_back_exactly(self):
        envelope = await self.store("bob@example.org", content=LARGE)
        assert self.contents() == [envelope.id]
        await self.reopen()
        content = await self.spool.content(envelope.id)
        assert content.whole() is None
        assert await self.octets(envelope.id) == LARGE
        assert await content.read(len(LARGE) - 3, 100) == LARGE[-3:]
        assert await content.read(len(LARGE), 100) == b""

    async def test_the_largest_small_content_makes_no_file(self):
        envelope = await self.store("bob@example.org", content=LARGE[:SMALL])
        assert self.contents() == []
        assert await self.octets(envelope.id) == LARGE[:SMALL]

    async def test_file_and_directory_are_synced_before_the_row(self):
        await self.store("bob@example.org", content=LARGE)
        names = [name for name in self.disk.calls if name in ("write", "sync", "sync_directory")]
        assert names[-2:] == ["sync", "sync_directory"]

    async def test_writing_waits_when_the_disk_is_behind(self):
        draft = self.spool.draft(ALICE, ())
        assert draft.write(bytes(WINDOW)) is None
        waiting = draft.write(bytes(1))
        assert isinstance(waiting, Deferred)
        await waiting
        await draft.commit(self.envelope(draft.id, "bob@example.org"))

    async def test_abandoning_leaves_nothing_and_may_be_repeated(self):
        for content in (b"small", LARGE):
            draft = self.spool.draft(ALICE, ())
            draft.write(content)
            draft.abandon()
            draft.abandon()
        await self.spool.stop()
        assert self.contents() == []

    async def test_abandoning_after_the_commit_does_no_harm(self):
        draft = self.spool.draft(ALICE, ())
        draft.write(LARGE)
        await draft.commit(self.envelope(draft.id, "bob@example.org"))
        draft.abandon()
        assert await self.octets(draft.id) == LARGE

    async def test_a_draft_is_committed_once_under_its_own_id(self):
        draft = self.spool.draft(ALICE, ())
        with pytest.raises(ValueError, match="once"):
            await draft.commit(self.envelope("OTHER", "bob@example.org"))
        await draft.commit(self.envelope(draft.id, "bob@example.org"))
        with pytest.raises(ValueError, match="once"):
            await draft.commit(self.envelope(draft.id, "bob@example.org"))

    async def test_a_commit_cancelled_while_the_file_is_synced_leaves_nothing(self):
        draft = self.spool.draft(ALICE, ())
        draft.write(LARGE)
        committing = Deferred.fromCoroutine(draft.commit(self.envelope(draft.id, "bob@example.org")))
        committing.addErrback(lambda failure: None)
        committing.cancel()
        await self.spool.stop()
        assert self.contents() == []

    async def test_they_are_handed_out_in_the_reactor_thread_once_a_group(self):
        calls = []

        def arrived(duties):
            assert isInIOThread()
            calls.append(len(duties))

        self.spool.on_arrival = arrived
        waiting = [Deferred.fromCoroutine(self.store("bob@example.org")) for _ in range(20)]
        for each in waiting:
            await each
        assert 1 <= len(calls) < 20, calls
        assert sum(calls) == 20

    async def test_modes_do_not_depend_on_the_umask(self):
        self.addCleanup(os.umask, os.umask(0))
        await self.reopen()
        await self.store("bob@example.org", content=LARGE)
        modes = {
            path.relative_to(self.directory.parent).as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in [self.directory, *self.directory.rglob("*")]
        }
        for name, mode in modes.items():
            assert mode == (448 if name in ("spool", "spool/content") else 384), name

    async def test_after_the_stop_everything_is_trouble(self):
        draft = self.spool.draft(ALICE, ())
        await self.spool.stop()
        await self.spool.stop()
        with pytest.raises(StorageTrouble):
            await draft.commit(self.envelope(draft.id, "bob@example.org"))
        with pytest.raises(StorageTrouble):
            await self.take()


class FullDiskTests(SpoolTestCase):
    """Disk full, EIO: the draft fails, nothing remains, and the next one works."""

    async def fails(self, operation, number, expected):
        self.disk.broken[operation] = number
        with pytest.raises(expected):
            await self.store("bob@example.org", content=LARGE * 8)
        self.disk.broken.clear()
        await self.store("bob@example.org")
        assert len(await self.take()) == 1
        await self.spool.stop()
        assert self.contents() == []

    async def test_no_space_for_the_content(self):
        await self.fails("write", errno.ENOSPC, StorageFull)

    async def test_no_inode(self):
        await self.fails("create", errno.ENOSPC, StorageFull)

    async def test_over_a_quota(self):
        await self.fails("write", errno.EDQUOT, StorageFull)

    async def test_input_output_error_while_writing(self):
        await self.fails("write", errno.EIO, StorageTrouble)

    async def test_a_failed_sync_fails_the_draft_and_is_not_tried_again(self):
        await self.fails("sync", errno.EIO, StorageTrouble)
        assert self.disk.calls.count("sync") == 1

    async def test_a_failed_sync_of_the_directory_fails_the_draft(self):
        await self.fails("sync_directory", errno.EIO, StorageTrouble)

    async def test_no_space_for_the_database(self):
        await self.store("bob@example.org")
        writing = self.spool._connections[0]
        (pages,) = writing.execute("PRAGMA page_count").fetchone()
        writing.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(StorageFull):
            await self.store("bob@example.org", content=LARGE[:100_000])
        await self.store("bob@example.org", content=b"a small one still fits\r\n")
        writing.execute("PRAGMA max_page_count = 1000000")
        await self.store("bob@example.org", content=LARGE[:100_000])
        assert len(await self.take()) == 3

    async def test_a_job_that_fails_takes_no_other_down(self):
        """Two drafts of one ID in one batch: the second is refused, those around it are stored."""
        draft = self.spool.draft(ALICE, ())
        draft.write(b"first")
        twin = self.make(entropy=lambda bits: 0).draft(ALICE, ())
        twin.id = draft.id
        twin._store = self.spool._store
        twin.write(b"second")
        good = [self.store("bob@example.org") for _ in range(3)]
        commits = [
            Deferred.fromCoroutine(each)
            for each in (
                good[0],
                draft.commit(self.envelope(draft.id, "bob@example.org")),
                twin.commit(self.envelope(draft.id, "bob@example.org")),
                *good[1:],
            )
        ]
        for number, each in enumerate(commits):
            if number == 2:
                with pytest.raises(StorageTrouble):
                    await each
            else:
                await each
        assert len(await self.take()) == 4
        assert await self.octets(draft.id) == b"first"


class TakingTests(SpoolTestCase):
    async def test_one_duty_for_each_message_and_destination(self):
        one = await self.store("a@x.example", "b@y.example", "c@x.example")
        two = await self.store("d@x.example")
        duties = await self.take()
        assert sorted(
            (d.envelope.id, d.destination, [str(w.recipient.address) for w in d.waiting]) for d in duties
        ) == sorted(
            [
                (one.id, "x.example", ["a@x.example", "c@x.example"]),
                (one.id, "y.example", ["b@y.example"]),
                (two.id, "x.example", ["d@x.example"]),
            ]
        )

    async def test_a_duty_is_handed_out_once_until_released(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        assert await self.take() == []
        assert await self.spool.next_due() is None
        self.spool.release(duty)
        assert await self.spool.next_due() == self.clock.seconds()
        assert await self.take() == [duty]
        self.spool.release(duty)
        self.spool.release(duty)

    async def test_a_new_process_hands_it_out_again(self):
        await self.store("a@x.example")
        first = await self.take()
        await self.reopen()
        assert await self.take() == first

    async def test_full_destinations_are_left_out(self):
        await self.store("a@x.example", "b@y.example")
        assert [d.destination for d in await self.take(full={"x.example"})] == ["y.example"]

    async def test_nothing_is_handed_out_early(self):
        await self.store("a@x.example")
        now = self.clock.seconds()
        assert await self.take(now=now - 1) == []
        assert len(await self.take(now=now)) == 1

    async def test_wealth_at_one_destination_keeps_no_other_waiting(self):
        for _ in range(30):
            await self.store("a@rich.example")
        self.clock.advance(10)
        await self.store("a@poor.example")
        destinations = [duty.destination for duty in await self.take(limit=4)]
        assert sorted(destinations) == ["poor.example", *(["rich.example"] * 3)]

    async def test_every_destination_gets_its_turn(self):
        for _ in range(3):
            for number in range(40):
                await self.store(f"a@d{number}.example")
        seen = []
        for _ in range(8):
            duties = await self.take(limit=5)
            seen += [duty.destination for duty in duties]
        assert len(set(seen)) == 40

    async def test_the_longest_due_comes_first(self):
        ids = []
        for _ in range(3):
            ids.append((await self.store("a@x.example")).id)
            self.clock.advance(1)
        assert [duty.envelope.id for duty in await self.take()] == ids

    async def test_next_due_is_the_earliest_nobody_has_taken(self):
        assert await self.spool.next_due() is None
        now = self.clock.seconds()
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, now + 300)
        assert await self.spool.next_due() == now + 300
        self.clock.advance(100)
        await self.store("a@x.example", "a@y.example")
        assert await self.spool.next_due() == now + 100
        await self.take()
        assert await self.spool.next_due() == now + 300

    async def test_waiting_mail_costs_no_time(self):
        """Steps of the database, counted, do not grow with what waits: not due, or at a full destination."""

        async def steps():
            count = [0]

            def step():
                count[0] += 1

            reading = self.spool._connections[1]
            reading.set_progress_handler(step, 1)
            duties = await self.take(full={"dead.example"}, limit=5)
            await self.spool.next_due()
            reading.set_progress_handler(None, 0)
            for duty in duties:
                self.spool.release(duty)
            assert len(duties) == 1
            return count[0]

        now = self.clock.seconds()
        await self.store("a@x.example")
        await self.store("a@dead.example")
        before = await steps()
        for round in range(2):
            waiting = [
                Deferred.fromCoroutine(self.store("a@dead.example", f"a@d{n}.example"))
                for n in range(round * 200, round * 200 + 200)
            ]
            for each in waiting:
                await each
            for duty in await self.take(full={"dead.example", "x.example"}, limit=1000):
                await self.settle(duty, DELAYED, now + 3600)
        after = await steps()
        assert after < before + 40


class SettlingTests(SpoolTestCase):
    async def test_a_delivered_message_is_gone(self):
        for content in (b"small", LARGE):
            envelope = await self.store("a@x.example", content=content)
            (duty,) = await self.take()
            await self.settle(duty, DELIVERED)
            with pytest.raises(StorageTrouble):
                await self.spool.content(envelope.id)
        assert await self.spool.next_due() is None
        await self.reopen()
        assert await self.take() == []
        assert self.contents() == []

    async def test_a_delayed_recipient_waits_and_remembers(self):
        now = self.clock.seconds()
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, now + 60)
        await self.reopen()
        assert await self.take() == []
        (duty,) = await self.take(now=now + 60)
        assert duty.waiting == (Waiting(rcpt("a@x.example"), 1, False),)
        await self.settle(duty, DELAYED, now + 120, warned=True)
        (duty,) = await self.take(now=now + 120)
        assert duty.waiting[0] == Waiting(rcpt("a@x.example"), 2, True)
        await self.settle(duty, DELAYED, now + 180)
        (duty,) = await self.take(now=now + 180)
        assert duty.waiting[0].warned

    async def test_the_last_outcome_is_a_row_that_can_be_asked_for(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, self.clock.seconds() + 60)
        with sqlite3.connect(self.directory / "spool.db") as connection:
            row = connection.execute(
                "SELECT state, attempts, scope, status, reply, host, code FROM recipient"
            ).fetchone()
        connection.close()
        assert row == ("waiting", 1, "recipient", "4.2.0", "Try later", "mx.example.org", 450)

    async def test_recipients_end_one_by_one_and_the_message_with_the_last(self):
        now = self.clock.seconds()
        envelope = await self.store("a@x.example", "b@x.example", "c@x.example")
        (duty,) = await self.take()
        a, b, c = envelope.recipients
        await self.spool.settle(
            duty,
            {a: Settlement(DELIVERED), b: Settlement(DELAYED, now + 60), c: Settlement(FAILED)},
            [],
        )
        await self.reopen()
        (duty,) = await self.take(now=now + 60)
        assert [waiting.recipient for waiting in duty.waiting] == [b]
        assert duty.envelope.recipients == (a, b, c)
        await self.settle(duty, DELIVERED)
        with pytest.raises(StorageTrouble):
            await self.spool.content(envelope.id)

    async def test_a_recipient_named_twice_is_settled_as_one(self):
        envelope = await self.store("a@x.example", "a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELIVERED)
        with pytest.raises(StorageTrouble):
            await self.spool.content(envelope.id)

    async def test_whoever_is_not_settled_is_due_again(self):
        envelope = await self.store("a@x.example", "b@x.example")
        (duty,) = await self.take()
        await self.spool.settle(duty, {envelope.recipients[0]: Settlement(DELIVERED)}, [])
        (duty,) = await self.take()
        assert [waiting.recipient for waiting in duty.waiting] == [envelope.recipients[1]]

    async def test_reports_come_in_by_the_same_step(self):
        for content in (b"small report", LARGE):
            await self.store("a@x.example")
            (duty,) = await self.take()
            report = self.report("alice@example.lan", content=content)
            await self.settle(duty, FAILED, reports=[report])
            (duty,) = await self.take()
            assert duty.envelope == report.envelope
            assert await self.octets(report.envelope.id) == content
            await self.settle(duty, DELIVERED)
            assert await self.spool.next_due() is None

    async def test_a_settlement_that_fails_records_nothing_and_may_be_repeated(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        writing = self.spool._connections[0]
        report = self.report("alice@example.lan", content=LARGE)
        writing.execute("PRAGMA query_only = ON")
        with pytest.raises(StorageTrouble):
            await self.settle(duty, FAILED, reports=[report])
        assert self.contents() == []
        assert await self.take() == []
        writing.execute("PRAGMA query_only = OFF")
        await self.settle(duty, FAILED, reports=[report])
        assert [each.envelope.id for each in await self.take()] == [report.envelope.id]

    async def test_no_room_for_a_report(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        self.disk.broken["write"] = errno.ENOSPC
        reports = [self.report("alice@example.lan", content=LARGE) for _ in range(2)]
        with pytest.raises(StorageFull):
            await self.settle(duty, FAILED, reports=reports)
        self.disk.broken.clear()
        await self.settle(duty, FAILED, reports=reports)
        assert len(await self.take()) == 2

    async def test_settling_what_was_not_taken_is_an_error(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, self.clock.seconds() + 60)
        with pytest.raises(ValueError, match="not taken"):
            await self.settle(duty, DELIVERED)

    async def test_a_settled_duty_is_not_seen_by_a_scan_that_began_before(self):
        """Scans and settlements interleaved at will: nothing is handed out twice."""
        for _ in range(100):
            await self.store("a@x.example")
        handed = []
        while duties := await self.take(limit=10):
            handed += [duty.envelope.id for duty in duties]
            settling = [Deferred.fromCoroutine(self.settle(duty, DELIVERED)) for duty in duties]
            for _ in range(5):
                more = await self.take(limit=2)
                handed += [duty.envelope.id for duty in more]
                settling += [Deferred.fromCoroutine(self.settle(duty, DELIVERED)) for duty in more]
            for each in settling:
                await each
        assert len(handed) == 100
        assert len(set(handed)) == 100


class ArrivalTests(SpoolTestCase):
    """Mail that has just been stored goes to delivery by itself."""

    async def test_it_is_as_if_it_had_been_taken(self):
        fresh = []
        self.spool.on_arrival = fresh.extend
        one = await self.store("a@x.example", "b@y.example", "c@x.example", "a@x.example")
        two = await self.store("d@x.example", content=LARGE)
        assert await self.take() == []
        assert await self.spool.next_due() is None
        found = [(d.envelope, d.destination, [w.recipient.address.local for w in d.waiting]) for d in fresh]
        assert found == [
            (one, "x.example", ["a", "c", "a"]),
            (one, "y.example", ["b"]),
            (two, "x.example", ["d"]),
        ]
        assert await self.octets(two.id) == LARGE
        self.spool.release(fresh[1])
        assert await self.take() == [fresh[1]]
        for duty in fresh:
            await self.settle(duty, DELIVERED)
        await self.spool.stop()
        assert self.contents() == []
        await self.reopen()
        assert await self.take() == []

    async def test_a_report_comes_so_as_well(self):
        await self.store("a@x.example")
        (duty,) = await self.take()
        calls = []
        self.spool.on_arrival = calls.append
        await self.settle(duty, FAILED, reports=[self.report("alice@example.lan")])
        assert [[d.destination for d in duties] for duties in calls] == [["example.lan"]]
        assert await self.take() == []

    async def test_an_order_is_followed_by_a_poke(self):
        """Who gave it may be gone before he says so himself, and nothing else has anybody look."""
        calls = []
        self.spool.on_arrival = calls.append
        await self.spool.order(partial(orders.resume, name="x.example"))
        assert calls == [()]

    async def test_what_is_delayed_waits_as_any_other(self):
        fresh = []
        self.spool.on_arrival = fresh.extend
        await self.store("a@x.example")
        await self.settle(fresh[0], DELAYED, self.clock.seconds() + 60)
        assert await self.spool.next_due() == self.clock.seconds() + 60
        self.clock.advance(60)
        (again,) = await self.take()
        assert [each.attempts for each in again.waiting] == [1]

    async def test_what_is_held_is_not_handed_out(self):
        await self.spool.order(partial(orders.add_rule, field="recipient", value="a@x.example", now=1.0))
        fresh = []
        self.spool.on_arrival = fresh.extend
        await self.store("a@x.example", "b@x.example")
        await self.store("a@x.example")
        assert [[str(each.recipient.address) for each in duty.waiting] for duty in fresh] == [["b@x.example"]]
        await self.settle(fresh[0], DELIVERED)
        (held,), _, _ = await self.spool.seize("rule 1: recipient a@x.example", 1, 10)
        assert [str(each.recipient.address) for each in held.waiting] == ["a@x.example"]

    async def test_what_is_paused_is_given_back(self):
        fresh = []
        self.spool.on_arrival = fresh.extend
        for name, address in (("x.example", "a@x.example"), ("*", "b@y.example")):
            await self.spool.order(partial(orders.pause, name=name, now=1.0))
            await self.store(address)
        assert fresh == []
        assert await self.take() == []
        await self.spool.order(partial(orders.resume, name="*"))
        assert len(await self.take()) == 2

    async def test_nothing_is_handed_out_twice_while_somebody_looks(self):
        """Scans among commits, and duties given back: each message is somebody's once at a time."""
        handed, turn = [], count()

        def arrived(duties):
            for duty in duties:
                if next(turn) % 3:
                    handed.append(duty.envelope.id)
                else:
                    self.spool.release(duty)

        self.spool.on_arrival = arrived
        for _ in range(20):
            storing = [Deferred.fromCoroutine(self.store("a@x.example", "b@y.example")) for _ in range(10)]
            handed += [duty.envelope.id for duty in await self.take()]
            await self.spool.next_due()
            for each in storing:
                await each
        handed += [duty.envelope.id for duty in await self.take(limit=1000)]
        assert await self.take() == []
        assert len(handed) == 400
        assert {handed.count(id) for id in handed} == {2}

    async def test_what_has_ended_is_forgotten_although_nobody_asks(self):
        fresh = []
        self.spool.on_arrival = fresh.extend
        self.patch(store, "_MOST_ENDED", 10)
        for _ in range(25):
            await self.store("a@x.example")
            await self.settle(fresh.pop(), DELIVERED)
        assert len(self.spool._ended) < 10
        assert await self.spool.next_due() is None
        assert self.spool._claims.of("x.example") == set()


class ClockTests(SpoolTestCase):
    async def test_a_clock_set_back_loses_no_work(self):
        """Delayed while the clock stood a month ahead: due at once, when take() learns of the step."""
        now = self.clock.seconds()
        self.clock.advance(30 * 86400)
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, self.clock.seconds() + 60)
        assert len(await self.take(now=now)) == 1

    async def test_so_does_a_start(self):
        self.clock.advance(30 * 86400)
        await self.store("a@x.example")
        await self.spool.stop()
        self.clock.rightNow -= 30 * 86400
        self.spool = self.open()
        assert await self.spool.next_due() == self.clock.seconds()
        assert len(await self.take()) == 1

    async def test_a_small_step_changes_nothing(self):
        now = self.clock.seconds()
        await self.store("a@x.example")
        (duty,) = await self.take()
        await self.settle(duty, DELAYED, now + 3600)
        assert await self.take(now=now - 3000) == []
        assert await self.spool.next_due() == now + 3600
