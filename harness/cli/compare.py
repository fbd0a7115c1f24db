"""`onnx-harness compare`: is one model file slower than another, or on another runtime?"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json, saying
from harness.cli.project import open_project

if TYPE_CHECKING:
    from harness.domain.duet import Estimate
    from harness.domain.regression import Explanation
    from harness.domain.spec import ModelSpec
    from harness.domain.values import Values
    from harness.duets import Duet, Quantity
    from harness.files.models import Model
    from harness.measuring import Side
    from harness.runtimes.launchers import Launcher
    from harness.runtimes.registry import Runtimes

#: Sets of inputs that take turns, so that no cache holds a whole run.
SETS = 4
NAME = "compared"


def compare(
    control: Annotated[
        Path, typer.Argument(metavar="CONTROL", help="Model that the candidate is held against.")
    ],
    candidate: Annotated[
        Path | None,
        typer.Argument(metavar="[CANDIDATE]", help="Model that is judged. Default: the same file."),
    ] = None,
    *,
    provider: Annotated[
        str, typer.Option(metavar="NAME", help="Provider of the candidate.")
    ] = "cpu",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Provider of the control, such as cpu@ort-1.31. Default: the candidate's.",
        ),
    ] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SIZE", help="Size of a free dimension; repeatable."),
    ] = None,
    threads: Annotated[
        int, typer.Option(metavar="N", min=1, help="Intra-op threads of each session.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of all orders. Default: a new one.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw both distributions: a .png, .svg or .pdf. Needs matplotlib."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure two recipes alternately and say whether the candidate is slower.

    Exit code 0 if it is as fast or faster, 1 if it is slower or nothing could be decided.
    """
    from harness.cli.adding import check_file
    from harness.domain.duet import Outcome, check_scipy
    from harness.duets import Duet
    from harness.errors import HarnessError
    from harness.runtimes.launchers import LocalLauncher
    from harness.runtimes.quiet import Quiet

    candidate = candidate or control
    if plot is not None:
        _check_plot(plot, control, candidate)
    for file in (control, candidate):
        check_file(file)
    _refuse_same(control, candidate, provider, against)
    check_scipy()
    seed = secrets.randbits(32) if seed is None else seed
    with (
        LocalLauncher() as launcher,
        saying(f"measuring {control.name} and {candidate.name}") as say,
    ):
        runtimes = open_project().runtimes(launcher)
        if against is not None:
            runtimes.check_name(against, where="--against")
        with _drafted(control, launcher, runtimes) as model:
            sets = _sets(model, _sizes(dim or (), model.spec))
            ours = _side(candidate, provider, runtimes, threads)
            theirs = _side(control, against or provider, runtimes, threads)
            duet = Duet(launcher, candidate=ours, control=theirs, sets=sets, seed=seed)
            with Quiet(say=say).exclusive():
                duet.judge(say)
                why = _explained(launcher, _outcome(duet), ours, theirs, sets)
            try:
                other = _other_outputs(launcher, ours, theirs, sets[0])
            except HarnessError as error:  # minutes of measuring are not lost for it
                other = [f"were not compared: {error.what}"]
    names = (_named(candidate, provider), _named(control, against or provider))
    if plot is not None:
        _draw(plot, duet, names, seed)
    if as_json:
        told = {"explanation": _plain_explanation(why), "other_outputs": other}
        print_json({**_plain(duet, sets, seed), **told})
    else:
        lines = [*(why.lines() if why else ()), *(f"outputs:  {each}" for each in other)]
        print(*_lines(duet, names, sets, seed), *(f"  {line}" for line in lines), sep="\n")
    fine = {Outcome.SAME, Outcome.NOT_SLOWER, Outcome.FASTER}
    raise typer.Exit(0 if duet.latency.outcome in fine else 1)


def _other_outputs(launcher: Launcher, candidate: Side, control: Side, feeds: Values) -> list[str]:
    """Return in what the outputs of one run differ beyond the tolerance table; in words."""
    from harness.domain.compare import compare as compare_outputs
    from harness.domain.spec import OutputSpec
    from harness.runtimes.sessions import open_session

    found = []
    for side in (candidate, control):
        resolved, (load_s, run_s) = side.resolved, side.limits_s
        forks = resolved.provider.forks
        with open_session(
            launcher, resolved.runtime, side.config, side.path, fork=forks, limit_s=load_s
        ) as session:
            found.append(session.run(feeds, limit_s=run_s).outputs)
    ours, theirs = found
    findings = compare_outputs(
        reference=theirs,
        candidate=ours,
        outputs=dict.fromkeys(theirs, OutputSpec(finite="same-positions")),
        provider=candidate.resolved.provider.name,
        cell="the candidate",
    ).findings
    return [each.what for each in findings]


def _check_plot(file: Path, *models: Path) -> None:
    from harness.errors import UsageProblem
    from harness.reports.plot import check_plot

    if file.resolve() in {model.resolve() for model in models}:
        msg = f"'{file}' is one of the models: it would be overwritten"
        raise UsageProblem(msg, where="--plot", expected="a file for the picture")
    check_plot(file)


def _explained(
    launcher: Launcher, outcome: str, candidate: Side, control: Side, sets: Sequence[Values]
) -> Explanation | None:
    """Return why the candidate is slower, or faster; None if it is neither."""
    if outcome not in {"slower", "faster"}:
        return None
    from harness.regressions import explain_regression

    return explain_regression(
        launcher, candidate=candidate, control=control, sets=sets, slower=outcome == "slower"
    )


def _plain_explanation(why: Explanation | None) -> dict[str, Any] | None:
    from dataclasses import asdict

    return {**asdict(why), "lines": why.lines()} if why else None


def _draw(file: Path, duet: Duet, names: tuple[str, str], seed: int) -> None:
    from harness.errors import UsageProblem
    from harness.reports.plot import draw

    words = _WORDS.get(_outcome(duet), "was not judged against")
    title = f"{names[0]} {words} {names[1]}: {_change(duet.latency.estimate)}"
    try:
        draw(file, duet.timed(), title=title, caption=f"single calls of all workers; seed {seed}")
    except OSError as error:
        msg = f"Picture '{file}' cannot be written: {error.strerror}"
        raise UsageProblem(msg, where="--plot", expected="a file that can be written") from None


def _refuse_same(control: Path, candidate: Path, provider: str, against: str | None) -> None:
    from harness.errors import UsageProblem

    if control.resolve() == candidate.resolve() and against in {None, provider}:
        msg = "Candidate and control are the same recipe: they cannot differ"
        raise UsageProblem(
            msg,
            where="CONTROL, CANDIDATE, --against",
            expected="two files, or one file on two runtimes",
            next_step="name a second file, or `--against cpu@RUNTIME`",
        )


@contextmanager
def _drafted(file: Path, launcher: Launcher, runtimes: Runtimes) -> Iterator[Model]:
    """Yield the model of a drafted spec whose cases run, in a folder that is gone afterwards."""
    import tempfile

    from harness.cli.adding import Request, add_model
    from harness.files.models import BrokenModel, load_model

    with tempfile.TemporaryDirectory(prefix="onnx-harness-") as folder:
        request = Request(file=file, reference=None, name=NAME, models=Path(folder))
        added = add_model(request, launcher=launcher, runtimes=runtimes)
        if added.trial.problem is not None:
            raise added.trial.problem
        model = load_model(added.folder)
        if isinstance(model, BrokenModel):
            raise model.problem
        yield model


def _sizes(given: Sequence[str], spec: ModelSpec) -> dict[str, int]:
    """Return the size of every free dimension: those given, else those of the first case."""
    from harness.cli.names import known_name
    from harness.errors import UsageProblem

    sizes = dict(spec.case[0].dims)
    for text in given:
        name, _, size = text.partition("=")
        known_name(name, sizes, "dimension", where="--dim")
        if not (size.isdecimal() and int(size)):
            msg = f"'{text}' gives no size"
            raise UsageProblem(msg, where="--dim", expected="NAME=SIZE, such as batch=8")
        sizes[name] = int(size)
    return sizes


def _sets(model: Model, sizes: Mapping[str, int]) -> list[Values]:
    from harness.domain.spec import CaseSpec
    from harness.files import cases

    return [
        cases.build(
            model.name, model.spec, CaseSpec(name=f"set{number}", dims=dict(sizes)), model.folder
        )[0]
        for number in range(SETS)
    ]


def _side(file: Path, provider: str, runtimes: Runtimes, threads: int) -> Side:
    from harness.domain.session import SessionConfig
    from harness.domain.spec import Limits
    from harness.measuring import Side

    resolved = runtimes.resolve(provider)
    limits = Limits()
    config = SessionConfig(
        provider=resolved.provider.ep, options=resolved.provider.options, threads=threads
    )
    return Side(path=file, resolved=resolved, config=config, limits_s=(limits.load_s, limits.run_s))


def _named(file: Path, provider: str) -> str:
    return f"'{file}' on {provider}"


def _lines(duet: Duet, names: tuple[str, str], sets: Sequence[Values], seed: int) -> Iterator[str]:
    from harness.duets import CANDIDATE, CONTROL

    candidate, control = names
    found, ours, theirs = duet.latency, duet.arms[CANDIDATE], duet.arms[CONTROL]
    words = _WORDS.get(_outcome(duet), "was not judged against")
    yield f"{candidate} {words} {control}: {_change(found.estimate)}"
    yield f"  p50:      {ours.p50_ms:.4g} ms, control {theirs.p50_ms:.4g} ms"
    low, high = _interval(duet)
    yield f"  interval: {low:+.2%} to {high:+.2%} ({1 - found.rule.alarm:.1%} one-sided each)"
    yield from _stage_lines(found)
    yield f"  start-up: {ours.startup_ms:.4g} ms, control {theirs.startup_ms:.4g} ms"
    memory = (max(arm.memory_bytes) / 2**20 for arm in (ours, theirs))
    yield "  memory:   {:.1f} MiB, control {:.1f} MiB".format(*memory)
    shapes = ", ".join(f"{name} {shape}" for name, shape in _shapes(sets[0]).items())
    yield f"  inputs:   {plural(len(sets), 'set')} of {shapes}"
    calls, waited = (sum(getattr(arm, name) for arm in duet.arms.values())
                     for name in ("calls", "waited"))  # fmt: skip
    yield f"  measured: {calls:,} calls, {waited:,} of them beside busy processes"
    yield f"  seed:     {seed}"
    if advice := _ADVICE.get(_outcome(duet)):
        yield f"  next:     {advice}"


def _stage_lines(found: Quantity) -> Iterator[str]:
    from harness.domain.duet import estimate

    for number, stage in enumerate(found.stages):
        name = ("screen", "confirmation 1", "confirmation 2", "settlement")[number]
        told = f"{_change(estimate(stage.candidate))} over {plural(len(stage.candidate), 'pair')}"
        if stage.sentinel:
            told += f"; the control's second copy {_change(estimate(stage.sentinel))}"
        yield f"  {name}: {told}"


def _outcome(duet: Duet) -> str:
    outcome = duet.latency.outcome
    return outcome.value if outcome else ""


def _interval(duet: Duet) -> list[float]:
    """Return both bounds of the change, at the rule's confidence."""
    found = duet.latency
    sides = (found.estimate.bound(1 - found.rule.alarm, upper=side) for side in (False, True))
    return [math.expm1(each) for each in sides]


_WORDS = {
    "same": "is as fast as",
    "not slower": "is not slower than",
    "slower": "is slower than",
    "faster": "is faster than",
}
_ADVICE = {
    "undecided": "a difference was seen, and is too uncertain for a verdict: run it again",
    "contaminated": "two copies of the control differ as much: run it on a quieter machine",
    "unstable": "pairs scatter too much for any judgement: run it on a quieter machine",
}


def _change(found: Estimate) -> str:
    return f"{math.expm1(found.effect):+.2%}"


def _shapes(feeds: Values) -> dict[str, list[int]]:
    import numpy as np

    return {name: list(np.shape(np.asarray(value))) for name, value in feeds.items()}


def _plain(duet: Duet, sets: Sequence[Values], seed: int) -> dict[str, Any]:
    from dataclasses import asdict

    from harness.duets import CANDIDATE, CONTROL

    found, ours, theirs = duet.latency, duet.arms[CANDIDATE], duet.arms[CONTROL]
    return {
        "outcome": _outcome(duet),
        "change": math.expm1(found.estimate.effect),
        "interval": _interval(duet),
        "estimate": asdict(found.estimate),
        "stages": [
            {"candidate": list(stage.candidate), "sentinel": list(stage.sentinel)}
            for stage in found.stages
        ],
        **{
            f"{name}_{key}": value
            for name, arm in (("candidate", ours), ("control", theirs))
            for key, value in (
                ("ms", arm.p50_ms),
                ("startup_ms", arm.startup_ms),
                ("memory_bytes", max(arm.memory_bytes)),
            )
        },
        "calls": sum(arm.calls for arm in duet.arms.values()),
        "calls_beside_busy_processes": sum(arm.waited for arm in duet.arms.values()),
        "inputs": _shapes(sets[0]),
        "sets": len(sets),
        "seed": seed,
    }
