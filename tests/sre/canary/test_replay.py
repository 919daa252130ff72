from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sre.canary import record as records
from sre.canary import replay
from sre.canary.session import Finished
from sre.evidence import attest, bundle, codec, journal, sign
from sre.evidence.files import ATTESTATION, CHECKSUMS
from tests.sre.canary.rolling import Says, Stage, staged

Edit = Callable[[list[dict[str, Any]]], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Finished]]:
    with staged(tmp_path_factory.mktemp("replay")) as stage:
        stage.edit("{weight: 50%, at_least: 10s, at_most: 3m}", "{weight: 50%, at_least: 10s, at_most: 3m, approval: true}")
        stage.channels = (Says(yes=True),)
        yield stage, stage.begin()


@pytest.fixture
def forged(finished: tuple[Stage, Finished], tmp_path: Path) -> Callable[[Edit], list[str]]:
    """Rewrites the journal with a whole chain and signs it all anew, as somebody with the key could; what a replay says."""
    stage, done = finished

    def forge(edit: Edit) -> list[str]:
        folder = tmp_path / done.folder.name
        for path in done.folder.rglob("*"):
            if path.is_file():
                (folder / path.relative_to(done.folder)).parent.mkdir(parents=True, exist_ok=True)
                (folder / path.relative_to(done.folder)).write_bytes(path.read_bytes())
        events = journal.read(folder / bundle.JOURNAL)
        edit(events)
        (folder / bundle.JOURNAL).unlink()
        again = journal.Journal(folder / bundle.JOURNAL, stage.target.clock)
        for event in events:
            again.write(
                event["event"],
                **{name: value for name, value in event.items() if name not in {"seq", "t", "at", "event", "prev"}},
            )
        key = sign.private_key(stage.place.signing_key)
        (folder / ATTESTATION).unlink()
        (folder / CHECKSUMS).unlink()
        attest.write(folder, bundle.load(folder), key)
        return replay.verify(folder, key.public_key())

    return forge


def looks(events: list[dict[str, Any]], kind: str = "look") -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == kind]


def test_a_rollout_comes_out_as_recorded(finished: tuple[Stage, Finished], forged: Callable[[Edit], list[str]]) -> None:
    stage, done = finished
    assert replay.verify(done.folder, sign.private_key(stage.place.signing_key).public_key()) == []
    assert forged(lambda _: None) == []


def test_another_key_is_told(finished: tuple[Stage, Finished], tmp_path: Path) -> None:
    _, done = finished
    (wrong,) = replay.verify(done.folder, sign.private_key(tmp_path / "other.pem").public_key())
    assert "not of the key" in wrong


def test_sabotage_a_count(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events)[4]["interval"]["observations"]["errors"]["canary"] -= 1

    (wrong,) = forged(edit)
    assert wrong.startswith("look 5 of ")
    assert "interval comes out as" in wrong


def test_sabotage_the_last_bit_of_the_evidence(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        standing = looks(events)[5]["standing"]
        standing["log_e_rollback"] *= 1 + 2**-52

    (wrong,) = forged(edit)
    assert wrong.startswith("look 6 of ")
    assert "standing" in wrong


def test_sabotage_an_action(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events)[3]["action"] = "PROMOTE"

    (wrong,) = forged(edit)
    assert "look 4 of " in wrong


def test_sabotage_a_look_taken_out(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        events.remove(looks(events)[-1])

    wrong = forged(edit)
    assert any("verdict computed from the looks" in sentence or "last look" in sentence for sentence in wrong)


def test_sabotage_the_watch(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events, "burn")[2]["burns"]["errors"] = 0.0

    (wrong,) = forged(edit)
    assert "after the promotion: burns comes out" in wrong


def test_sabotage_the_baseline(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events, "watching")[0]["held_to"][0]["share"] = 0.9

    (wrong,) = forged(edit)
    assert wrong.startswith("the baseline")


def test_sabotage_an_approval_taken_out(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        events.remove(looks(events, "answer")[0])

    assert forged(edit) == ["it was promoted, though nobody let it go on to stage 2"]


def test_sabotage_the_outcome(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events, "decision")[0]["outcome"] = "broken"

    wrong = forged(edit)
    assert "it was rolled back, and neither a look nor a person nor the policy says so" in wrong
    assert "the outcome is recorded as kept, the journal decided broken" in wrong


def test_sabotage_an_extension_that_nobody_gave(forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events)[2]["extended_s"] = 180.0

    assert any("180 s more than people said" in sentence for sentence in forged(edit))


def test_sabotage_the_samples(finished: tuple[Stage, Finished], forged: Callable[[Edit], list[str]]) -> None:
    def edit(events: list[dict[str, Any]]) -> None:
        looks(events)[2]["raw"]["sha256"] = "0" * 64

    (wrong,) = forged(edit)
    assert "is not what the journal says" in wrong


def test_the_samples_are_lines_that_other_tools_read(finished: tuple[Stage, Finished]) -> None:
    _, done = finished
    lines = gzip.decompress((done.folder / "drills" / "canary" / records.LOOKS).read_bytes()).splitlines()
    course = records.read(done.folder)
    assert [json.loads(line)["at"] for line in lines] == [told.look.at for told in (*course.looks, *course.burns)]


def test_verdicts_of_what_was_never_looked_at(finished: tuple[Stage, Finished]) -> None:
    _, done = finished
    plan = records.read(done.folder).plan
    (verdict,) = replay.verdicts(plan, {"outcome": "broken", "why": "no"}, ())
    assert (verdict.measured, verdict.n) == (None, 0)
    assert replay.verdicts(plan, {"outcome": "error", "why": "no"}, ()) == ()
    assert codec.plain(verdict)["outcome"] == "broken"
