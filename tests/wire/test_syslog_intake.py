"""Rooms: how much may wait, who is let in next, and what a record's way is called."""

import asyncio

import pytest

from wire.syslog_framing import Piece, Whole
from wire.syslog_intake import Origin, Room, Rooms, Transport, memory_of


def test_who_finds_no_room_waits_and_is_let_in_in_turn():
    async def story():
        room, let_in = Room(100), []

        async def bring(name, octets):
            await room.enter(octets)
            let_in.append(name)

        await bring("first", 80)
        tasks = [asyncio.create_task(bring(name, octets)) for name, octets in (("large", 60), ("small", 10))]
        await asyncio.sleep(0)
        assert let_in == ["first"]  # the small one does not overtake, or the large one would never come in
        room.leave(80)
        await asyncio.gather(*tasks)
        assert let_in == ["first", "large", "small"]

    asyncio.run(story())


def test_one_alone_is_let_in_whatever_its_size():
    async def story():
        room = Room(10)
        await asyncio.wait_for(room.enter(1000), 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(room.enter(1), 0.01)

    asyncio.run(story())


@pytest.mark.parametrize("let_in_first", [False, True])
def test_who_gives_up_at_the_door_takes_no_room(let_in_first):
    async def story():
        room = Room(10)
        await room.enter(10)
        waiting = asyncio.create_task(room.enter(8))
        behind = asyncio.create_task(room.enter(5))
        await asyncio.sleep(0)
        if let_in_first:
            room.leave(10)  # let in, and cancelled before it runs
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if not let_in_first:
            room.leave(10)
        await asyncio.wait_for(behind, 1)
        await asyncio.wait_for(room.enter(5), 1)

    asyncio.run(story())


def test_small_messages_have_a_room_of_their_own_and_empty_ones_take_some_of_it():
    rooms = Rooms(8 * 2**20)
    assert (rooms.small._most, rooms.large._most) == (2**20, 7 * 2**20)
    assert memory_of([Piece(b""), Piece(b"abc")]) == 2051


def test_via_says_how_and_from_whom():
    origin = Origin(Transport.TLS, "CN=lab,O=Hospital A")
    assert origin.via(Whole.YES) == "syslog+tls CN=lab,O=Hospital A"
    assert origin.via(Whole.BROKEN) == "syslog+tls,broken CN=lab,O=Hospital A"
    assert Origin(Transport.UDP, "10.1.2.3").via(Whole.TRUNCATED) == "syslog+udp,truncated 10.1.2.3"
    assert len(Origin(Transport.TLS, "CN=" + "x" * 5000).via(Whole.YES)) < 500
