"""`sre canary`: a new version of the model, judged beside the one in production, stage by stage."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sre.cli import output
from sre.cli.output import AsJson
from sre.cli.system import Meant, TargetName, check_meant
from sre.config import PROJECT, Settings
from sre.errors import EvidenceDamaged, ExitCode, UsageError
from sre.units import Ratio, Seconds, parse_ratio, parse_seconds

if TYPE_CHECKING:
    from sre.canary.plan import Plan
    from sre.canary.record import Record
    from sre.canary.rollout import Around, Permission
    from sre.canary.session import Finished, Place
    from sre.canary.view import View
    from sre.clock import Clock
    from sre.drills.world import World
    from sre.judges.canary.planner import Traffic
    from sre.targets.base import Target

PLAN = PROJECT / "experiments" / "canary.yaml"

app = typer.Typer(
    no_args_is_help=True,
    help="Take a new version of the model into service at 10, 50, 100 % of the traffic, judged by sequential tests with stated "
    "error rates. Exit codes: 0 promoted, 1 rolled back, 3 held for lack of evidence, 4 could not run, 6 something is still "
    "changed.",
)

PlanFile = Annotated[Path, typer.Option("--plan", help="Stages, metrics and error rates; this system's own when left out.")]
Url = Annotated[str | None, typer.Option("--prometheus", metavar="URL", help="Who counted; the running system's when left out.")]
Run = Annotated[str, typer.Argument(help="Id of a rollout or path to its folder.")]
Share = Annotated[
    Ratio | None, typer.Option("--stage", parser=parse_ratio, metavar="WEIGHT", help="The stage that is meant, as 50%.")
]
Lately = Annotated[
    Seconds | None,
    typer.Option(parser=parse_seconds, metavar="TIME", help="How far back today's traffic is read; 10m when left out."),
]
LATELY_S = 600.0


@app.command()
def plan(
    file: PlanFile = PLAN,
    prometheus: Url = None,
    since: Lately = None,
    target_name: TargetName = "local",
    as_json: AsJson = False,
) -> None:
    """Say how long each stage will take at today's traffic, and what the error rates mean. Refuses a plan that cannot decide."""
    from dataclasses import asdict

    from sre.canary.plan import load
    from sre.clock import SystemClock
    from sre.evidence.codec import plain
    from sre.judges.canary.planner import foresee, unforeseen
    from sre.judges.canary.statement import statement
    from sre.units import Unit, show, show_bound

    loaded = load(file)
    rules = loaded.rules()
    span_s = since or LATELY_S
    with _prometheus(prometheus, target_name) as url:
        now = _traffic(loaded, url, span_s, SystemClock())
    forecasts, unknown, sentences = foresee(rules, now), unforeseen(rules, now), statement(rules)
    if as_json:
        stages = [plain(asdict(one)) for one in forecasts]
        rate = {"requests_per_s": now.requests_per_s, "requests": now.requests}
        output.document("sre.canary-plan/1", {**rate, "stages": stages, "unforeseen": unknown, "statement": sentences})
        return
    rows = [
        (show_bound(one.weight, Unit.RATIO), show(one.median_s, Unit.SECONDS), show(one.ninety_s, Unit.SECONDS), one.why)
        for one in forecasts
    ]
    output.table(("weight", "half of all take", "nine of ten at most", "because"), rows)
    output.narrate(f"at {now.requests_per_s:,.0f} requests a second, as in the last {span_s:g} s")
    for name in unknown:
        output.narrate(f"{name} gates and had no event lately, so nothing is foreseen of it")
    for sentence in sentences:
        output.narrate(sentence)


@app.command()
def judge(
    file: PlanFile = PLAN,
    prometheus: Url = None,
    since: Annotated[
        Seconds | None,
        typer.Option(parser=parse_seconds, metavar="TIME", help="How long the canary has had its traffic; 10m when left out."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when, as 2026-01-01T12:00:00Z; now when left out.")
    ] = None,
    stage: Share = None,
    target_name: TargetName = "local",
    as_json: AsJson = False,
) -> None:
    """Decide once, for a pipeline that shifts the traffic itself: exit 0 PROMOTE, 1 ROLLBACK, 3 HOLD."""
    from sre.canary import decide, view
    from sre.canary.plan import load
    from sre.clock import iso
    from sre.evidence.codec import plain
    from sre.judges.canary.decision import Action

    loaded = load(file)
    moment = _moment(at)
    number = _stage(loaded, stage) if stage else 0
    with _prometheus(prometheus, target_name) as url:
        standing = decide.judge(loaded, url, at=moment, since=moment - (since or LATELY_S), stage=number)
    if as_json:
        output.document("sre.canary-decision/1", {"at_utc": iso(standing.at), **plain(standing)})
    else:
        typer.echo(standing.action.value)
        for reason in standing.reasons:
            typer.echo(f"  {reason}")
        output.table(
            ("metric", "canary", "control", "events", "evidence that it is worse", "evidence that it is fine"),
            [(row.metric, row.canary, row.control, row.n, row.worse.text, row.fine.text if row.fine else "")
             for row in view.rows(standing)],
            right=frozenset({"canary", "control", "events"}),
        )  # fmt: skip
    codes = {Action.PROMOTE: ExitCode.KEPT, Action.ROLLBACK: ExitCode.BROKEN, Action.HOLD: ExitCode.INCONCLUSIVE}
    raise typer.Exit(codes[standing.action])


@app.command()
def run(
    version: Annotated[str | None, typer.Argument(help="Of the registered model; left out with --resume.")] = None,
    file: PlanFile = PLAN,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a rollout whose process is gone.")] = None,
    watch: Annotated[bool, typer.Option(help="A live table of metrics and evidence, on a terminal.")] = False,
    page: Annotated[int | None, typer.Option(min=0, max=65535, help="Also show it on a page at this port of 127.0.0.1.")] = None,
    answer_within: Annotated[
        Seconds | None,
        typer.Option(parser=parse_seconds, metavar="TIME", help="How long a question waits for its yes; 1h when left out."),
    ] = None,
    since: Lately = None,
    target_name: TargetName = "local",
    meant: Meant = None,
    as_json: AsJson = False,
) -> None:
    """Roll out a version: shift traffic, look once per scrape, promote or roll back. Ctrl-C rolls back; after a SIGKILL --resume
    goes on and `abort` takes back. Questions are answered at the terminal, by `sre canary approve`, on the page, and in Slack
    (SRE_SLACK_TOKEN_FILE, SRE_SLACK_CHANNEL, SRE_SLACK_APPROVERS)."""  # noqa: D205, D209 - one paragraph of help
    from sre.canary import session
    from sre.evidence import bundle

    if (version is None) == (resume is None):
        raise UsageError("name the version to roll out, or with --resume the rollout to go on with, not both")
    settings = Settings()
    check_meant(settings, target_name, meant)
    with _view(watch=watch) as view, output.interruptible(view.change), ExitStack() as stack:
        target, world = stack.enter_context(_running(settings, target_name))
        url = world.endpoints.prometheus
        arrange = _arrange(settings, target, url, view, page, answer_within or 3600.0, since or LATELY_S, stack)
        if resume is not None:
            done = session.resume(bundle.find(settings.evidence, resume), target, arrange, _place(settings))
        else:
            assert version is not None  # noqa: S101 - one of the two is there
            done = session.begin(file, version, target, arrange, _place(settings))
    _finish(done, as_json=as_json)


@app.command()
def approve(run: Run, stage: Share = None) -> None:
    """Say yes to the open question of a rollout: may it go on?"""
    _answer(run, stage, yes=True)


@app.command()
def reject(run: Run, stage: Share = None) -> None:
    """Say no to the open question of a rollout: it is rolled back."""
    _answer(run, stage, yes=False)


@app.command()
def abort(run: Run, target_name: TargetName = "local", meant: Meant = None, as_json: AsJson = False) -> None:
    """End a rollout and take back all that it changed, whether its process lives or not."""
    from sre.canary import session
    from sre.canary.approval import account
    from sre.evidence import bundle

    settings = Settings()
    check_meant(settings, target_name, meant)
    with _view(watch=False) as view, output.interruptible(view.change), ExitStack() as stack:
        target, world = stack.enter_context(_running(settings, target_name))
        arrange = _arrange(settings, target, world.endpoints.prometheus, view, None, 0.0, LATELY_S, stack)
        folder = bundle.find(settings.evidence, run)
        done = session.abort(folder, target, arrange, _place(settings), account(os.getuid()))
    if as_json:
        output.document("sre.canary-aborted/1", {"run": done.record.id, "exit_code": done.record.exit_code})
    else:
        output.narrate(f"{done.record.id} is ended; {done.record.drills[0].steps[-1].detail}")
    if done.record.exit_code == ExitCode.UNDO_INCOMPLETE:
        raise typer.Exit(ExitCode.UNDO_INCOMPLETE)


@app.command()
def replay(
    run: Run,
    key: Annotated[
        Path | None, typer.Option(metavar="PUBLIC.pem", help="Public key of the signer; this machine's own when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge every look of a rollout again from its raw samples: it must come out byte for byte as recorded, or exit 4 says where
    not."""  # noqa: D205, D209 - one paragraph of help
    from sre.canary import record
    from sre.canary import replay as replays
    from sre.evidence import bundle, sign

    settings = Settings()
    folder = bundle.find(settings.evidence, run)
    signer = sign.public_key(key or sign.public_path(settings.signing_key))
    wrong = replays.verify(folder, signer)
    if as_json:
        output.document(
            "sre.canary-replay/1", {"run": folder.name, "key": sign.key_id(signer), "holds": not wrong, "wrong": wrong}
        )
        raise typer.Exit(ExitCode.CANNOT_RUN if wrong else ExitCode.KEPT)
    if wrong:
        raise EvidenceDamaged(f"{folder.name} does not hold: {'; '.join(wrong)}")
    course = record.read(folder)
    typer.echo(
        f"{folder.name} holds: signed with key {sign.key_id(signer)}, and all {len(course.looks) + len(course.burns)} looks "
        "come out byte for byte as recorded"
    )


def _answer(run: str, stage: float | None, *, yes: bool) -> None:
    from sre.canary import approval, record
    from sre.evidence import bundle

    folder = bundle.find(Settings().evidence, run)
    course = record.read(folder)
    question = course.question()
    if question is None:
        raise UsageError(f"{folder.name} asks nothing just now; its question may have been answered or withdrawn")
    weight = course.plan.stages[question["stage"]].weight
    if stage is not None and stage != weight:
        raise UsageError(f"{folder.name} asks about the stage of {weight:.4%}, not of {stage:.4%}: {question['text']}")
    approval.give(folder / "drills" / record.CANARY, question["question"], yes=yes)
    output.narrate(f"{'yes' if yes else 'no'}: {question['text']}")


def _arrange(
    settings: Settings, target: Target, url: str, view: View, page: int | None, within: float, lately_s: float, stack: ExitStack
) -> Callable[[Record, Plan, Path], Around]:
    """What a rollout works with, once its folder is there."""
    from sre.canary.approval import Channel, CommandLine, InSlack, Terminal, account
    from sre.canary.burn import PRODUCTION
    from sre.canary.page import Page
    from sre.canary.rollout import Around
    from sre.canary.source import Source
    from sre.canary.traffic import sentence
    from sre.judges.canary.planner import foresee
    from sre.notify.slack import Courier, Slack, SlackSettings

    slack = SlackSettings()
    courier = Courier(Slack(slack)) if slack.token_file is not None else None

    def arrange(record: Record, plan: Plan, beside: Path) -> Around:
        channels: list[Channel] = [CommandLine(record.folder)]
        if sys.stdin.isatty():
            channels.append(Terminal(sys.stdin, view.change))
        if courier is not None:
            channels.append(InSlack(courier))
        shown = view
        if page is not None:
            served = Page(page, plan, f"whoever {account(os.getuid())} gave the page's address", view)
            stack.callback(served.close)
            channels.append(served)
            shown = served
            view.change(f"the page, once: {served.address}")
        view.change(f"run {record.evidence.id}")
        return Around(
            target=target, arms=Source(plan, url, clock=target.clock),
            production=Source(plan, url, clock=target.clock, tracks=(PRODUCTION,)), view=shown,
            channels=tuple(channels), courier=courier, policy=_policy(settings, plan, beside, url, target.clock),
            foresee=lambda: [sentence(one) for one in foresee(plan.rules(), _traffic(plan, url, lately_s, target.clock))],
            answer_within_s=within,
        )  # fmt: skip

    return arrange


def _policy(settings: Settings, plan: Plan, beside: Path, url: str, clock: Clock) -> Callable[[], Permission] | None:
    if plan.slo is None:
        return None
    from sre.canary.rollout import Permission
    from sre.slo import policy
    from sre.slo.spec import load
    from sre.slo.standing import ask

    objectives, rules = load(beside / plan.slo), policy.load()

    def answer() -> Permission:
        now = clock.wall()
        said = policy.answer(ask(url, objectives, now), rules, settings.home, now)
        return Permission(said.starts, f"{said.decision}: {'; '.join(said.reasons)}")

    return answer


def _traffic(plan: Plan, url: str, span_s: float, clock: Clock) -> Traffic:
    from sre.canary.burn import PRODUCTION
    from sre.canary.source import Source
    from sre.canary.traffic import since, traffic

    start = clock.wall() - span_s
    look = Source(plan, url, clock=clock, tracks=(PRODUCTION,)).look(since(plan, start), 0)
    return traffic(plan, look, start)


@contextmanager
def _view(*, watch: bool) -> Iterator[View]:
    from sre.canary.watch import Lines, Watch

    console = output.console(stderr=True)
    if watch and not console.is_terminal:
        raise UsageError("--watch needs a terminal; without it every change is a line")
    if watch:
        with Watch(console) as live:
            yield live
    else:
        with output.progress() as narrator:
            yield Lines(narrator.change, narrator.say)


def _running(settings: Settings, where: TargetName) -> AbstractContextManager[tuple[Target, World]]:
    from sre.drills import session

    return session.running(settings, where)


def _place(settings: Settings) -> Place:
    from sre.canary.session import Place
    from sre.drills.run import machine

    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return Place(settings.evidence, settings.signing_key, {**machine(), "command": command})


def _finish(done: Finished, *, as_json: bool) -> None:
    from sre.evidence import codec, text

    if as_json:
        typer.echo(codec.dump(done.record), nl=False)
    else:
        output.console().print(text.run_rich(done.record))
    raise typer.Exit(done.record.exit_code)


@contextmanager
def _prometheus(url: str | None, where: TargetName) -> Iterator[str]:
    if url:
        yield url
        return
    with _running(Settings(), where) as (_, world):
        yield world.endpoints.prometheus


def _stage(plan: Plan, share: Ratio) -> int:
    weights = [stage.weight for stage in plan.stages]
    if share not in weights:
        raise UsageError(f"the plan has no stage of {share:.4%}; it has {', '.join(f'{weight:.4%}' for weight in weights)}")
    return weights.index(share)


def _moment(text: str | None) -> float:
    from sre.clock import moment

    return time.time() if text is None else moment(text)
