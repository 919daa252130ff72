from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sre.errors import CannotRun, UsageError
from sre.notify import slack
from sre.notify.slack import Courier, Reply, Slack, SlackSettings
from tests.sre.notify.conftest import APPROVERS, TOKEN, SlackServer

Make = Callable[..., SlackSettings]


def eventually(found: Callable[[], object], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert SlackSettings().token_file is None
    assert SlackSettings().approvers == frozenset()
    monkeypatch.setenv("SRE_SLACK_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("SRE_SLACK_APPROVERS", "U1, U2")
    read = SlackSettings()
    assert read.token_file == tmp_path / "token"
    assert read.approvers == {"U1", "U2"}


def test_a_message_begins_a_thread_and_others_follow(server: SlackServer, settings: Make) -> None:
    client = Slack(settings())
    first = client.post("canary of version 5 began: 2 < 3 & more")
    second = client.post("10 %", first)
    assert [message["text"] for message in server.messages] == ["canary of version 5 began: 2 &lt; 3 &amp; more", "10 %"]
    assert [message["thread_ts"] for message in server.messages] == [None, first.ts]
    assert second.ts != first.ts


@pytest.mark.parametrize(("reaction", "yes"), [(slack.YES, True), (slack.NO, False)])
def test_a_reaction_of_an_approver_answers(server: SlackServer, settings: Make, reaction: str, yes: bool) -> None:  # noqa: FBT001
    client = Slack(settings())
    question = client.post("go on?")
    assert client.reply(question, question) is None
    server.react(question.ts, "eyes", "U1")
    server.react(question.ts, reaction, "U9", "U1")
    assert client.reply(question, question) == Reply("U1", yes, "reaction")


@pytest.mark.parametrize(("text", "yes"), [("approve", True), (" Approve! ", True), ("reject", False)])
def test_a_reply_of_an_approver_answers(server: SlackServer, settings: Make, text: str, yes: bool) -> None:  # noqa: FBT001
    client = Slack(settings())
    head = client.post("canary began")
    question = client.post("go on?", head)
    server.write("U2", text, head.ts)
    assert client.reply(question, head) == Reply("U2", yes, "reply")


def test_forged_answers_do_not_count(server: SlackServer, settings: Make) -> None:
    client = Slack(settings())
    head = client.post("canary began")
    server.write("U1", "approve", head.ts)  # before the question
    server.react(head.ts, slack.YES, "U1")  # to another message
    question = client.post("go on?", head)
    server.react(question.ts, slack.YES, "U0", "U9", "U11")  # the bot itself, and others
    server.write("U9", "approve", head.ts)
    server.write("U1", "do not approve", head.ts)
    server.write("U1", "approve", head.ts, bot_id="B2")  # an application that calls itself U1
    server.write("U1", "approve", "1799999999.000100")  # in another thread
    assert client.reply(question, head) is None
    server.write("U1", "approve", head.ts)
    assert client.reply(question, head) == Reply("U1", yes=True, how="reply")


def test_nobody_can_answer_where_no_approver_is_named(server: SlackServer, settings: Make) -> None:
    client = Slack(settings(approvers=""))
    question = client.post("go on?")
    server.react(question.ts, slack.YES, "U1")
    server.write("", "approve", question.ts)
    assert client.reply(question, question) is None


def test_when_approvers_disagree_the_answer_is_no(server: SlackServer, settings: Make) -> None:
    client = Slack(settings())
    question = client.post("go on?")
    server.react(question.ts, slack.YES, "U1")
    server.write("U2", "reject", question.ts)
    assert client.reply(question, question) == Reply("U2", yes=False, how="reply")


def test_what_slack_refuses_is_told_without_the_token(server: SlackServer, settings: Make) -> None:
    for changed, said in (({"token": "xoxb-wrong"}, "invalid_auth"), ({"channel": "C2"}, "channel_not_found")):
        with pytest.raises(CannotRun, match=rf"refused chat.postMessage \({said}\)") as told:
            Slack(settings(**changed)).post("hello")
        assert "xoxb" not in str(told.value)
        assert told.value.__cause__ is None
    assert TOKEN not in repr(settings())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, {"Content-Type": "application/json"}, b"[]"), "Slack"),
        ((200, {"Content-Type": "application/json"}, b'{"ok": true}'), "did not say where"),
        ((200, {"Content-Type": "application/json"}, b"{"), "cannot be reached"),
        ((404, {}, b"nothing here"), "no JSON"),
    ],
)
def test_an_answer_that_is_none_is_told(
    server: SlackServer, settings: Make, answer: tuple[int, dict[str, str], bytes], said: str
) -> None:
    server.broken.append(answer)
    with pytest.raises(CannotRun, match=said):
        Slack(settings()).post("hello")


def test_a_busy_slack_is_asked_again(server: SlackServer, settings: Make) -> None:
    server.broken += [(429, {"Retry-After": "0"}, b"{}"), (503, {}, b"{}")]
    Slack(settings()).post("hello")
    assert server.calls == ["chat.postMessage"] * 3
    assert [message["text"] for message in server.messages] == ["hello"]


def test_an_unreachable_slack_is_told(settings: Make) -> None:
    with pytest.raises(CannotRun, match=r"cannot be reached for chat.postMessage \(URLError\)"):
        Slack(settings(url="http://127.0.0.1:9/api/")).post("hello")


def test_a_token_must_be_a_secret(settings: Make, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="mode 644"):
        Slack(settings(mode=0o644))
    with pytest.raises(CannotRun, match="holds no Slack token"):
        Slack(settings(token="hunter2"))
    with pytest.raises(CannotRun, match="cannot be read"):
        Slack(settings(token_file=tmp_path / "absent"))
    with pytest.raises(UsageError, match="SRE_SLACK_CHANNEL is not"):
        Slack(settings(channel=""))


def test_the_courier_carries_messages_questions_and_answers(server: SlackServer, settings: Make) -> None:
    courier = Courier(Slack(settings()))
    courier.tell("canary began")
    first = courier.ask("go on to 50 %?")
    eventually(lambda: len(server.messages) == 2)
    server.react(server.messages[1]["ts"], slack.YES, min(APPROVERS))
    eventually(lambda: courier.reply(first))
    second = courier.ask("go on to 100 %?")
    eventually(lambda: len(server.messages) == 3)
    assert courier.reply(second) is None
    assert courier.reply(first) == Reply(min(APPROVERS), yes=True, how="reaction")
    courier.close(10)
    assert courier.failures() == []
    assert [message["thread_ts"] for message in server.messages] == [None, *[server.messages[0]["ts"]] * 2]


def test_the_courier_keeps_failures_and_goes_on(server: SlackServer, settings: Make) -> None:
    courier = Courier(Slack(settings()))
    server.broken += [(404, {}, b"")]
    courier.tell("lost")
    courier.tell("sent")
    courier.close(10)
    assert [message["text"] for message in server.messages] == ["sent"]
    assert courier.failures() == [
        "Slack refused chat.postMessage (no JSON); see https://docs.slack.dev/reference/methods/chat.postMessage"
    ]
    assert courier.failures() == []
