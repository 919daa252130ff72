from __future__ import annotations

from sre.judges.manifests import ways
from sre.judges.network import compare
from sre.targets.memory import Behaviour
from sre.targets.network import MemoryNetwork


def test_a_network_that_is_whole_has_nothing_to_find() -> None:
    network = MemoryNetwork(Behaviour())
    assert network.waiting() == "no probe runs"
    roles = network.begin()
    assert network.waiting() == ""
    found = compare(roles, network.tries(), network.listening(), ways.allowed(roles))
    assert (found.findings, found.doubts) == ((), ())
    network.end()
    network.end()
    assert (network.left(), network.tries()) == ("", ())


def test_a_server_that_is_silent_refuses_everybody_and_is_not_listed() -> None:
    network = MemoryNetwork(Behaviour(servers_silent=("data/mlflow",)))
    network.begin()
    assert {one.answer for one in network.tries() if one.to == "data/mlflow"} == {"Connection refused"}
    assert ("mlflow-0", 5000) not in network.listening()
