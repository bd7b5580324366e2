"""A lost host is noticed by the others."""

import queue
import socket

import pytest

from training import heartbeat
from training.heartbeat import BEAT, DONE, FAILED, MESSAGE, Heartbeat


@pytest.fixture
def pair(monkeypatch):
    """Returns the reported hosts, and the ends of host 0's connections to hosts 1 and 2."""
    monkeypatch.setattr(heartbeat, "SILENCE_SECONDS", 0.2)
    lost, first = queue.Queue(), Heartbeat(lambda *what: lost.put(what))
    ends = {}
    for host in (1, 2):
        ends[host], ours = socket.socketpair()
        first.add(host, ours)
    return lost, ends


def test_a_closed_connection_is_a_lost_host_and_the_others_hear_of_it(pair):
    lost, ends = pair
    ends[1].sendall(MESSAGE.pack(BEAT))
    ends[1].close()
    assert lost.get(timeout=5) == (1, False)
    assert MESSAGE.unpack(ends[2].recv(MESSAGE.size)) == (1,)


def test_silence_is_a_lost_host(pair):
    assert pair[0].get(timeout=5)[1] is False


def test_a_host_reports_its_error_and_what_it_hears(pair):
    lost, ends = pair
    ends[2].sendall(MESSAGE.pack(FAILED))
    assert lost.get(timeout=5) == (2, True)
    ends[1].sendall(MESSAGE.pack(7))
    assert lost.get(timeout=5) == (7, False)


def test_a_host_that_has_ended_as_all_do_is_not_lost(pair):
    lost, ends = pair
    for end in ends.values():
        end.sendall(MESSAGE.pack(DONE))
        end.close()
    with pytest.raises(queue.Empty):
        lost.get(timeout=0.4)
