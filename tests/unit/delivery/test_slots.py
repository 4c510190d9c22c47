"""Slots: neither window waits for the other, no destination holds up another, the hand is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from mailserver.delivery.slots import Place, Slots, Window
from mailserver.interfaces import Duty, Waiting
from mailserver.model.address import Address
from mailserver.model.envelope import Envelope, Origin, QueueID, Recipient


def duty(destination, number=0):
    recipient = Recipient(Address("bob", destination))
    envelope = Envelope(QueueID(f"{destination}{number}"), Address("a", "b"), (recipient,), Origin(), 0.0)
    return Duty(envelope, destination, (Waiting(recipient),))


def test_each_destination_has_its_slots_and_the_rest_is_parked():
    window = Window(size=10, each=2, hand=3)
    places = [window.offer(duty("a", n)) for n in range(6)]
    assert places == [Place.NOW] * 2 + [Place.PARKED] * 3 + [Place.AWAY]
    assert window.offer(duty("b")) is Place.NOW
    assert window.full() == {"a"}


def test_parked_duties_begin_in_turn():
    window = Window(size=2, each=2)
    for destination in "aabbcc":
        window.offer(duty(destination, destination))
    assert window.full() == {"a", "b", "c"}
    begun = [window.leave("a")[0], window.leave("a")[0], window.leave("b")[0], window.leave("c")[0]]
    assert [one.destination for one in begun] == ["b", "c", "b", "c"]
    assert window.full() == set()


def test_more_may_be_taken_when_a_full_destination_is_free_again():
    window = Window(size=10, each=1, hand=1)
    first, second = duty("a", 1), duty("a", 2)
    window.offer(first)
    assert window.full() == {"a"}
    window.offer(second)
    assert window.leave("a") == (second, False)  # the parked one has its slot
    assert window.leave("a") == (None, True)
    assert window.full() == set()
    window.offer(duty("b"))


def test_nothing_more_may_be_taken_when_nothing_was_full():
    window = Window(size=10, each=2)
    window.offer(duty("a"))
    assert window.leave("a") == (None, False)


def test_who_was_turned_away_may_come_when_the_hand_is_half_empty():
    window = Window(size=1, each=1, hand=2)
    for destination in "abcd":
        window.offer(duty(destination))
    assert window.full() == {"a", "b", "c", "d"}
    begun, more = window.leave("a")
    assert (begun.destination, more) == ("b", True)
    assert window.full() == {"b", "c"}


def test_local_and_remote_do_not_wait_for_each_other():
    slots = Slots(lambda name: name == "here", Window(1, 1), Window(1, 1))
    assert slots.offer(duty("far")) is Place.NOW
    assert slots.offer(duty("away")) is Place.PARKED
    assert slots.offer(duty("here")) is Place.NOW
    assert slots.offer(duty("", 1)) is Place.PARKED  # a bare postmaster lives here
    assert slots.full() == {"far", "away", "here", ""}
    assert all(map(slots.is_full, slots.full()))
    assert not slots.is_full("else")
    assert slots.leave(duty("here"))[0].destination == ""


def test_what_comes_leaves_room_for_others():
    window = Window(size=1, each=1, hand=8)
    assert window.offer(duty("a"), is_fresh=True) is Place.NOW
    places = [window.offer(duty("a", n), is_fresh=True) for n in range(6)]
    assert places == [Place.PARKED] * 4 + [Place.AWAY] * 2
    places = [window.offer(duty("b", n), is_fresh=True) for n in range(4)]
    assert places == [Place.PARKED] * 2 + [Place.AWAY] * 2
    places = [window.offer(duty("c", n)) for n in range(3)]
    assert places == [Place.PARKED] * 2 + [Place.AWAY]
    assert window.offer(duty("d"), is_fresh=True) is Place.AWAY
    assert window.is_full("d")
    assert [window.leave("a")[1], window.leave("a")[1], window.leave("b")[1]] == [False] * 3
    assert window.leave("c") == (duty("a", 1), True), "the hand is half empty: who was turned away may come"


def test_clear_gives_back_what_was_parked():
    slots = Slots(lambda name: False, Window(1, 1), Window(1, 1))
    slots.offer(duty("a"))
    slots.offer(duty("b"))
    assert [one.destination for one in slots.clear()] == ["b"]
    assert slots.full() == {"a"}
    assert slots.leave(duty("a")) == (None, True)


def test_a_reload_does_not_move_what_is_under_way():
    hosted = set()
    slots = Slots(lambda name: name in hosted, Window(1, 1), Window(1, 1))
    slots.offer(duty("a"))
    hosted.add("a")
    slots.leave(duty("a"))
    assert slots.offer(duty("b")) is Place.NOW  # the remote window is free again
    assert slots.offer(duty("a")) is Place.NOW  # and a is local now


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 4),
    st.lists(st.one_of(st.sampled_from("abcABC"), st.integers(0, 9)), max_size=60),
)
def test_whatever_comes_and_goes_nothing_is_lost_and_nothing_exceeded(size, each, hand, moves):
    """A letter: a duty for that destination is taken, unless it is full, or comes; a number: one ends."""
    window = Window(size, each, hand)
    under_way, parked = [], []
    for number, move in enumerate(moves):
        if isinstance(move, str):
            name, is_fresh = move.lower(), move.isupper()
            if not is_fresh and name in window.full():
                continue
            assert window.is_full(name) == (name in window.full())
            one = duty(name, number)
            own = sum(other.destination == name for other in parked)
            room = hand - len(parked)
            place = window.offer(one, is_fresh)
            assert place is not Place.PARKED or not is_fresh or own < room
            assert place is not Place.AWAY or name in window.full()
            if place is Place.NOW:
                under_way.append(one)
            elif place is Place.PARKED:
                parked.append(one)
        elif under_way:
            before = window.full()
            begun, more = window.leave(under_way.pop(move % len(under_way)).destination)
            if begun is not None:
                parked.remove(begun)
                under_way.append(begun)
            assert more == bool(before - window.full())
        assert len(under_way) <= size
        assert len(parked) <= hand
        names = [one.destination for one in under_way]
        assert all(names.count(name) <= each for name in names)
        # Nobody is parked who could work.
        assert len(under_way) == size or all(names.count(one.destination) >= each for one in parked)
    assert {id(one) for one in window.clear()} == {id(one) for one in parked}


def test_slots_are_earned_and_lost():
    window = Window(size=100, each=6, first=2)
    assert window.slots("a") == 2
    for expected in (3, 4, 5, 6, 6):
        window.learn("a", True)
        assert window.slots("a") == expected
    for expected in (3, 1, 1):
        window.learn("a", False)
        assert window.slots("a") == expected
    assert window.slots("b") == 2


def test_a_slot_that_was_earned_is_used_at_once():
    slots = Slots(lambda name: False, Window(1, 1), Window(size=10, each=5, first=1))
    assert [slots.offer(duty("a", n)) for n in range(4)] == [Place.NOW, *[Place.PARKED] * 3]
    begun = slots.learn("a", True)
    assert [one.envelope.id for one in begun] == ["a1"]
    assert slots.learn("a", False) == []
    assert slots.learn("unheard-of", True) == []


def test_what_is_parked_can_be_withdrawn():
    slots = Slots(lambda name: False, Window(1, 1), Window(size=10, each=1))
    duties = [duty("a", n) for n in range(3)]
    for one in duties:
        slots.offer(one)
    assert slots.withdraw("a") == duties[1:]
    assert slots.withdraw("unheard-of") == []
    assert slots.leave(duties[0]) == (None, True)
    assert slots.full() == frozenset()
