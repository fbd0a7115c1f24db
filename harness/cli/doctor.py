"""`onnx-harness doctor`: the truth about every runtime and provider of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.output import AsJson, plural, print_json, print_table, saying
from harness.cli.project import open_project

if TYPE_CHECKING:
    from harness.cli.diagnosis import Check
    from harness.domain.environment import Environment

Names = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="Check only this provider, on the runtime that a run would take, such as cuda or "
        "cpu@RUNTIME; repeatable. Default: every provider of every runtime.",
    ),
]
HEADERS = ("runtime", "onnxruntime", "provider", "status", "nodes", "start")
STYLES = {
    "works": "green",
    "takes no node": "yellow",
    "not usable": "red",
    "broken runtime": "red",
    "not made": "yellow",
}


def doctor(*, provider: Names = None, as_json: AsJson = False) -> None:
    """Open a session on every provider of every runtime and tell what really happened.

    Exit code 0 if everything that has to work does, else 3. What has to work: with --provider,
    each provider named; without it, at least one provider, every runtime that exists, and every
    plugin provider of the settings whose runtime is made. A built-in provider that is not usable
    (CUDA without a GPU) is shown and does not count.

    Last comes the environment that baselines of this machine belong to; that of its NVIDIA GPUs
    too, if it has any.
    """
    checks = _checks(provider or [])
    healthy = is_healthy(checks, asked=bool(provider))
    if as_json:
        environments = {use: _as_json(each) for use, each in _environments().items()}
        found = [check.as_json() for check in checks]
        print_json({"healthy": healthy, "environments": environments, "checks": found})
    else:
        _print(checks)
        _print_environments()
    raise typer.Exit(0 if healthy else 3)


def is_healthy(checks: Iterable[Check], *, asked: bool) -> bool:
    """Return whether everything that has to work does."""
    from harness.cli.diagnosis import Status

    found = list(checks)
    works = any(check.status is Status.WORKS for check in found)
    if asked:
        return works and all(check.status is Status.WORKS for check in found)
    return works and not any(
        check.declared and check.status not in {Status.WORKS, Status.NOT_MADE} for check in found
    )


def _checks(names: list[str]) -> list[Check]:
    from harness.cli.diagnosis import Doctor
    from harness.runtimes.launchers import LocalLauncher

    project = open_project()
    with LocalLauncher() as launcher, saying("opening sessions"):
        doctor = Doctor(project.settings, project.runtimes(launcher), launcher)
        return list(doctor.asked(names) if names else doctor.everything())


def _environments() -> dict[str, Environment]:
    """Return what this machine is: for figures of its processor, and of its GPUs if it has any."""
    from harness.errors import EnvironmentProblem
    from harness.runtimes.machine import this_environment

    found = {"cpu": this_environment()}
    with contextlib.suppress(EnvironmentProblem):  # a machine without a GPU is healthy
        found["gpu"] = this_environment(gpu=True)
    return found


def _as_json(environment: Environment) -> dict[str, Any]:
    from dataclasses import asdict

    return {"id": environment.id, **asdict(environment)}


def _print_environments() -> None:
    print()
    for use, environment in _environments().items():
        parts = {name: value for name, value in _as_json(environment).items() if value}
        print(f"environment ({use}): {parts.pop('id')}")
        for name, value in parts.items():
            print(f"  {name + ':':<12}{value}")


def _print(checks: list[Check]) -> None:
    if not checks:
        print("No runtime: onnxruntime is not installed beside the harness, and none was added")
        print("  next:     pip install onnxruntime, or `onnx-harness runtime add cpu onnxruntime`")
        return
    print_table(HEADERS, map(_row, checks), styles=STYLES)
    for group in _alike(checks):
        print()
        print(*_story(group), sep="\n")
    working = sum(check.status == "works" for check in checks)
    print()
    print(f"{working} of {plural(len(checks), 'check')} found a provider that works")


def _row(check: Check) -> tuple[str, ...]:
    nodes = "-" if check.placed is None else f"{check.placed}/{check.total}"
    cells = (check.runtime, check.version, check.provider, check.status.value, nodes)
    return tuple(cell or "-" for cell in (*cells, check.start_method))


def _alike(checks: list[Check]) -> Iterable[list[Check]]:
    """Return the checks that did not work, those with the same story together."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        if check.finding is not None:
            groups.setdefault((check.cause, check.finding.next_step), []).append(check)
    return groups.values()


def _story(group: list[Check]) -> Iterator[str]:
    """Yield who is concerned and the cause, then what the first of them told in full."""
    from harness.errors import labelled_lines

    check = group[0]
    yield f"{', '.join(each.name for each in group)}: {check.cause}"
    if check.finding is None:
        return
    first, *rest = labelled_lines(check.finding)
    if check.cause not in first:
        yield f"  {'told:':<10}{first}"
    yield from rest
