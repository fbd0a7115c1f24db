"""Runtimes: which serves a provider, and what is told when none does."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.domain.project import ProjectSettings, ProviderSettings, RuntimeSettings
from harness.domain.providers import BUILTIN
from harness.errors import EnvironmentProblem, HarnessError, SpecError, UsageProblem
from harness.runtimes import registry
from harness.runtimes.launchers import LocalLauncher
from harness.runtimes.registry import MARK, Runtime, RuntimeFacts, Runtimes

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Answers = Mapping[str, RuntimeFacts | HarnessError]


def facts(*available: str, version: str = "1.32.0") -> RuntimeFacts:
    """Return what a runtime with these providers says."""
    return RuntimeFacts(version=version, available=available, devices=())


class Asking:
    """Answers for runtimes instead of starting them, and counts the questions."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, _: LocalLauncher, runtime: Runtime) -> RuntimeFacts:
        """Return or raise the answer, as `registry.ask` would."""
        self.asked.append(runtime.name)
        answer = self.answers[runtime.name]
        if isinstance(answer, HarnessError):
            raise answer
        return answer


@pytest.fixture
def asking(monkeypatch: pytest.MonkeyPatch) -> Asking:
    """Return what answers for the runtimes `own`, `gpu` and `broken`; scope function."""
    broken = EnvironmentProblem("Interpreter ended before it was ready", code="runtime.broken")
    gpu = facts(CUDA, CPU, version="1.31.1")
    answering = Asking({"own": facts(CPU), "gpu": gpu, "broken": broken})
    monkeypatch.setattr(registry, "ask", answering)
    return answering


def runtimes_of(
    tmp_path: Path,
    *names: str,
    providers: Mapping[str, ProviderSettings] | None = None,
    declared: Mapping[str, RuntimeSettings] | None = None,
) -> Runtimes:
    """Return the runtimes of a project that names these interpreters, after its own."""
    named = {name: RuntimeSettings(python=f"{name}/python") for name in names}
    settings = ProjectSettings(
        runtimes={**named, **(declared or {})}, providers=dict(providers or {})
    )
    return Runtimes(settings, tmp_path, tmp_path / "added", LocalLauncher())


def test_order(asking: Asking, tmp_path: Path) -> None:
    """The harness's own interpreter comes first, then those of the settings, then added ones."""
    mark = tmp_path / "added" / "later" / MARK
    mark.parent.mkdir(parents=True)
    mark.write_text(json.dumps({"python": "/p", "requirements": ["onnxruntime==1.20"]}))
    found = runtimes_of(tmp_path, "gpu").all()
    assert [(runtime.name, runtime.source, runtime.python) for runtime in found] == [
        ("own", "own", sys.executable),
        ("gpu", "settings", str(tmp_path / "gpu/python")),
        ("later", "added", "/p"),
    ]
    assert found[2].requirements == ("onnxruntime==1.20",)
    assert asking.asked == []


def test_first_that_has_the_provider(asking: Asking, tmp_path: Path) -> None:
    """Runtimes are asked in order, and each only once however often."""
    runtimes = runtimes_of(tmp_path, "broken", "gpu")
    assert runtimes.resolve("cpu").runtime.name == "own"
    assert runtimes.resolve("cuda").runtime.name == "gpu"
    assert runtimes.resolve("cuda").runtime.name == "gpu"
    assert asking.asked == ["own", "broken", "gpu"]


@pytest.mark.usefixtures("asking")
def test_named_runtime_is_taken(tmp_path: Path) -> None:
    """What stands after `@` is taken as it is; whether it works shows when it is used."""
    runtimes = runtimes_of(tmp_path, "broken", "gpu")
    resolved = runtimes.resolve("cpu@gpu")
    assert (resolved.name, resolved.provider.ep, resolved.runtime.name) == ("cpu@gpu", CPU, "gpu")
    assert runtimes.resolve("cuda@broken").runtime.name == "broken"


@pytest.mark.usefixtures("asking")
def test_runtime_of_the_settings_is_preferred(tmp_path: Path) -> None:
    """A provider's table may name its runtime, and give it options."""
    own = {"cpu": ProviderSettings(runtime="gpu", options={"threads": "1"})}
    resolved = runtimes_of(tmp_path, "gpu", providers=own).resolve("cpu")
    assert resolved.runtime.name == "gpu"
    assert resolved.provider.options == {"threads": "1"}
    assert runtimes_of(tmp_path, "gpu", providers=own).resolve("cpu@own").runtime.name == "own"


@pytest.mark.usefixtures("asking")
def test_plugin_provider_runs_in_the_own_interpreter(tmp_path: Path) -> None:
    """A provider with a library of its own needs no build that has it."""
    plugin = {"ggml": ProviderSettings(ep="ggml", library="onnxruntime_ggml")}
    resolved = runtimes_of(tmp_path, "gpu", providers=plugin).resolve("ggml")
    assert resolved.runtime.name == "own"
    assert resolved.provider.plugin is not None
    assert resolved.provider.plugin.library == "onnxruntime_ggml"


@pytest.mark.usefixtures("asking")
def test_provider_that_no_runtime_has(tmp_path: Path) -> None:
    """The error tells what each runtime has, and what is wrong with broken ones."""
    with pytest.raises(EnvironmentProblem) as caught:
        runtimes_of(tmp_path, "broken").resolve("cuda")
    assert str(caught.value) == (
        "Provider 'cuda' is not available: no runtime has CUDAExecutionProvider\n"
        "  where:    --provider cuda\n"
        "  expected: a runtime whose ONNX Runtime was built with CUDAExecutionProvider\n"
        "  got:      own (onnxruntime 1.32.0): ['CPUExecutionProvider']\n"
        f"            broken ({tmp_path}/broken/python): Interpreter ended before it was ready\n"
        f"  next:     {BUILTIN['cuda'].hint}"
    )
    assert caught.value.code == "provider.unavailable"


def test_without_any_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ONNX Runtime is not installed at all, that is the cause."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem) as caught:
        runtimes_of(tmp_path).resolve("cpu")
    assert caught.value.got == "no runtime at all: onnxruntime is not installed"


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize(
    ("name", "what", "advice"),
    [
        ("cpu@gpuu", "'gpuu' is unknown", "did you mean 'gpu'?"),
        ("cpu@elsewhere", "'elsewhere' is unknown", "onnx-harness runtime add elsewhere"),
        ("openvino@ov", "'ov' is declared but not made yet", "onnx-harness runtime add ov"),
    ],
    ids=["misspelled", "unknown", "declared"],
)
def test_runtime_that_is_not_there(tmp_path: Path, name: str, what: str, advice: str) -> None:
    """A runtime's name after `@` is checked before anything runs."""
    declared = {"ov": RuntimeSettings(requirements=("onnxruntime-openvino",))}
    runtimes = runtimes_of(tmp_path, "gpu", declared=declared)
    for ask in (runtimes.check_name, runtimes.resolve):
        with pytest.raises(UsageProblem) as caught:
            ask(name)
        assert str(caught.value) == (
            f"Runtime {what}\n"
            "  where:    --provider\n"
            "  expected: one of own, gpu\n"
            f"  next:     {advice}"
        )


def test_settings_of_an_unknown_provider(tmp_path: Path) -> None:
    """A misspelled table of the settings is told, instead of being without effect."""
    with pytest.raises(SpecError) as caught:
        runtimes_of(tmp_path, providers={"cudaa": ProviderSettings(options={"a": "b"})})
    assert str(caught.value) == (
        "Settings describe a provider 'cudaa' that ONNX Runtime does not have\n"
        "  where:    settings, providers.cudaa\n"
        "  expected: a built-in provider, or 'ep' and 'library' of a plugin\n"
        "  next:     did you mean 'cuda'?"
    )


@pytest.mark.usefixtures("asking")
def test_unknown_provider(tmp_path: Path) -> None:
    """A provider's name is checked, and the nearest one is offered."""
    with pytest.raises(UsageProblem) as caught:
        runtimes_of(tmp_path).check_name("cudaa@own")
    assert caught.value.what == "Unknown provider 'cudaa'"
    assert caught.value.next_step == "did you mean 'cuda'?"


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "{}", '{"python": "/p"}', '{"python": "/p", "requirements": 3}']
)
def test_broken_mark(tmp_path: Path, text: str) -> None:
    """A runtime whose mark was damaged is named with the command that removes it."""
    mark = tmp_path / "added" / "old" / MARK
    mark.parent.mkdir(parents=True)
    mark.write_text(text)
    with pytest.raises(EnvironmentProblem) as caught:
        runtimes_of(tmp_path)
    assert caught.value.what.startswith("Runtime 'old' has a broken mark: ")
    assert caught.value.next_step == "onnx-harness runtime remove old"


def test_own_runtime_says_what_it_is(tmp_path: Path) -> None:
    """The harness's own interpreter is really asked, in a worker."""
    with LocalLauncher() as launcher:
        runtimes = Runtimes(ProjectSettings(), tmp_path, tmp_path / "added", launcher)
        found = runtimes.facts(runtimes.all()[0])
    assert CPU in found.available
    assert found.version.count(".") >= 2


def test_broken_runtime_is_asked_once(tmp_path: Path) -> None:
    """A runtime that cannot start tells the same each time."""
    settings = ProjectSettings(runtimes={"gone": RuntimeSettings(python="gone/python")})
    with LocalLauncher() as launcher:
        runtimes = Runtimes(settings, tmp_path, tmp_path / "added", launcher)
        gone = runtimes.all()[-1]
        with pytest.raises(EnvironmentProblem) as first:
            runtimes.facts(gone)
        with pytest.raises(EnvironmentProblem) as second:
            runtimes.facts(gone)
    assert first.value is second.value
