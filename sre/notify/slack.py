"""Slack: messages of a rollout, and what people answer to its questions.

A bot's token with the scopes `chat:write`, `reactions:read` and `channels:history` is read from the file that
SRE_SLACK_TOKEN_FILE names. Whether Slack works never decides whether a rollout goes on: `Courier` sends from a thread of its
own and keeps what went wrong.
"""

from __future__ import annotations

import logging
import queue
import re
import threading
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry import ConnectionErrorRetryHandler, RateLimitErrorRetryHandler
from slack_sdk.http_retry.builtin_handlers import ServerErrorRetryHandler

from sre.config import Folder
from sre.errors import CannotRun, UsageError

TIMEOUT_S = 10
RETRIES = 2
POLL_S = 3.0
YES, NO = "white_check_mark", "x"  # reactions
_QUIET = logging.getLogger(__name__)
_QUIET.disabled = True  # what matters of the client's own messages is raised
_WORDS = {"approve": True, "reject": False}
_REACTIONS = {YES: True, NO: False}


def _ids(value: Any) -> Any:
    return frozenset(value.replace(",", " ").split()) if isinstance(value, str) else value


Ids = Annotated[frozenset[str], NoDecode, BeforeValidator(_ids)]


class SlackSettings(BaseSettings):
    """Where messages go and whose answers count, from environment variables that begin with `SRE_SLACK_`.

    Attributes:
        token_file: holds a bot's token and nothing else; None: no Slack.
        channel: id of the channel.
        approvers: ids of the users whose answer counts, with commas between them; none: nobody's does.
        url: base of the Web API.
    """

    model_config = SettingsConfigDict(env_prefix="SRE_SLACK_", frozen=True)

    token_file: Folder | None = None
    channel: str = ""
    approvers: Ids = frozenset()
    url: str = "https://slack.com/api/"


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was sent: id of its channel and its time stamp there."""

    channel: str
    ts: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an approver answered: their id, whether they agree, and how they said so."""

    user: str
    yes: bool
    how: str


class Slack:
    """Sends messages and reads answers.

    Args:
        settings: with a token file.

    Raises:
        UsageError: no channel is named.
        CannotRun: the token cannot be used.
    """

    def __init__(self, settings: SlackSettings) -> None:
        if not settings.channel:
            raise UsageError("SRE_SLACK_TOKEN_FILE is set and SRE_SLACK_CHANNEL is not; set it to the id of a channel")
        assert settings.token_file is not None  # noqa: S101 - only then is there a Slack
        retries = (ConnectionErrorRetryHandler, RateLimitErrorRetryHandler, ServerErrorRetryHandler)
        self._client = WebClient(
            _token(settings.token_file), base_url=settings.url, timeout=TIMEOUT_S, logger=_QUIET,
            retry_handlers=[kind(max_retry_count=RETRIES) for kind in retries],
        )  # fmt: skip
        self._channel = settings.channel
        self.approvers = settings.approvers

    def post(self, text: str, under: Message | None = None) -> Message:
        """Send a message.

        Args:
            text: plain; what Slack would read as its own marks is escaped.
            under: the message that it answers; None begins a thread.

        Raises:
            CannotRun: Slack did not take it.
        """
        told = self._ask("chat.postMessage", channel=self._channel, text=_escaped(text), thread_ts=under.ts if under else None)
        try:
            return Message(str(told["channel"]), str(told["ts"]))
        except KeyError as error:
            raise CannotRun(f"Slack took a message and did not say where it is ({error} is missing)") from error

    def reply(self, message: Message, thread: Message) -> Reply | None:
        """The answer of an approver to a question: a reaction to it, or `approve` or `reject` written after it in its thread.

        Whoever is not an approver is passed over. When approvers disagree, the answer is no.

        Args:
            message: the question.
            thread: the message that began its thread.

        Raises:
            CannotRun: Slack cannot be asked.
        """
        found = []
        reacted = self._ask("reactions.get", channel=message.channel, timestamp=message.ts, full="true")
        for reaction in _items(reacted.get("message"), "reactions"):
            agreed = _REACTIONS.get(str(reaction.get("name")))
            if agreed is not None:
                found += [Reply(user, agreed, "reaction") for user in self.approvers if user in reaction.get("users", ())]
        # A thread's first message is always among them, whatever `oldest` is.
        written = self._ask("conversations.replies", channel=thread.channel, ts=thread.ts, oldest=message.ts, limit=200)
        for item in _items(written, "messages"):
            agreed = _WORDS.get(str(item.get("text", "")).strip().strip(".!").lower())
            if agreed is not None and _later(item.get("ts"), message.ts) and "bot_id" not in item:
                found.append(Reply(str(item.get("user", "")), agreed, "reply"))
        counted = [reply for reply in found if reply.user in self.approvers]
        return min(counted, key=lambda reply: reply.yes, default=None)

    def _ask(self, method: str, **fields: Any) -> dict[str, Any]:
        """Call a method. Messages name what Slack said and never what was sent: a request carries the token."""
        try:
            answer = self._client.api_call(method, params={name: value for name, value in fields.items() if value is not None})
        except SlackApiError as error:
            # An error of Slack's own is one word; anything else is a page that somebody between here and there wrote.
            data = getattr(error.response, "data", None)
            said = str(data.get("error")) if isinstance(data, dict) else ""
            word = said if re.fullmatch(r"[a-z_]+", said) else "no JSON"
            raise CannotRun(f"Slack refused {method} ({word}); see https://docs.slack.dev/reference/methods/{method}") from None
        except (SlackClientError, OSError, HTTPException, ValueError) as error:
            raise CannotRun(f"Slack cannot be reached for {method} ({type(error).__name__}); check SRE_SLACK_URL") from None
        return answer.data if isinstance(answer.data, dict) else {}


class Courier:
    """Sends and polls from a thread of its own, in order; nothing here waits for Slack but `close`."""

    def __init__(self, slack: Slack) -> None:
        self._slack = slack
        self._work: queue.SimpleQueue[tuple[int, str] | None] = queue.SimpleQueue()
        self._failures: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._head: Message | None = None
        self._asked = 0
        self._replies: dict[int, Reply] = {}  # by the number of the question, so that no answer counts for another one
        self._thread = threading.Thread(target=self._run, name="slack", daemon=True)
        self._thread.start()

    def tell(self, text: str) -> None:
        """Send a message; the first begins the thread."""
        self._work.put((0, text))

    def ask(self, text: str) -> int:
        """Send a question and poll for its answer instead of that of the question before.

        Returns:
            Its number.
        """
        self._asked += 1
        self._work.put((self._asked, text))
        return self._asked

    def reply(self, question: int) -> Reply | None:
        """The answer to a question, once there is one."""
        return self._replies.get(question)

    def failures(self) -> list[str]:
        """What went wrong since this was last asked."""
        found = []
        while not self._failures.empty():
            found.append(self._failures.get())
        return found

    def close(self, within_s: float) -> None:
        """Send what is left, for so long at most."""
        self._work.put(None)
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._failures.put(f"Slack did not take the last messages within {within_s:g} s")

    def _run(self) -> None:
        open_question: tuple[int, Message] | None = None
        while True:
            try:
                item = self._work.get(timeout=POLL_S if open_question else None)
                if item is None:
                    return
                number, text = item
                sent = self._slack.post(text, self._head)
                self._head = self._head or sent
                open_question = (number, sent) if number else open_question
            except queue.Empty:
                open_question = self._polled(open_question)
            except CannotRun as error:
                self._failures.put(str(error))

    def _polled(self, question: tuple[int, Message] | None) -> tuple[int, Message] | None:
        """Ask for the answer to a question; the question, until it is answered."""
        assert question is not None and self._head is not None  # noqa: S101, PT018 - a poll follows a question
        try:
            reply = self._slack.reply(question[1], self._head)
        except CannotRun as error:
            self._failures.put(str(error))
            return question
        if reply is None:
            return question
        self._replies[question[0]] = reply
        return None


def _token(path: Path) -> str:
    try:
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRun(f"the Slack token in {path} cannot be read ({type(error).__name__}); see SRE_SLACK_TOKEN_FILE") from None
    if mode & 0o077:
        raise CannotRun(f"the Slack token {path} has mode {mode & 0o777:o}, so others can use it; chmod 600")
    if not token.startswith("xox"):
        raise CannotRun(f"{path} holds no Slack token; one begins with xoxb-")
    return token


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _items(document: Any, name: str) -> list[dict[str, Any]]:
    found = document.get(name) if isinstance(document, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _later(ts: Any, than: str) -> bool:
    try:
        return float(ts) > float(than)
    except (TypeError, ValueError):
        return False
