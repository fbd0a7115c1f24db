"""All baselines of a folder at once: as they lie there, or as a commit in git has them."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from harness.domain.baseline import Baseline, LocalBaseline
from harness.domain.baseline_changes import Stored
from harness.errors import HarnessError, UsageProblem
from harness.files import commits
from harness.files.baselines import ARTEFACTS, SUFFIX, Baselines

#: Between the fields of a line of git's log; no name and no subject has it.
_BETWEEN = "\x1f"


def read_all(
    baselines: Baselines,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    with_figures: bool = True,
) -> Stored:
    """Return all baselines of a folder; a broken file keeps no other away.

    Args:
        baselines: The folder.
        wanted: Tells by a file's name whether to read it.
        with_figures: Whether to read those of the environments, too.
    """
    portable: dict[str, Baseline] = {}
    local: dict[tuple[str, str], LocalBaseline] = {}
    broken: dict[tuple[str, str], HarnessError] = {}
    for place in ("", *(baselines.environments() if with_figures else ())):
        for name in filter(wanted, baselines.models(place)):
            try:
                if place:
                    if (figures := baselines.local(name, place)) is not None:
                        local[place, name] = figures
                elif (found := baselines.portable(name)) is not None:
                    portable[name] = found
            except HarnessError as error:
                broken[place, name] = error
    return Stored(portable=portable, local=local, broken=broken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that changed baselines."""

    hash: str
    parent: str
    """The first one; empty where there is none, as in the oldest commit of a shallow clone."""
    date: str
    """Of the commit, ISO 8601."""
    author: str
    subject: str


class Past:
    """What git knows of a folder of baselines.

    Args:
        folder: The folder; it may be gone.

    Raises:
        UsageProblem: If it lies in no repository.
    """

    def __init__(self, folder: Path) -> None:
        folder = folder.resolve()
        place = next(each for each in (folder, *folder.parents) if each.is_dir())
        self._place = place
        self._path = folder.relative_to(place).as_posix()
        commits.printed(place, "rev-parse", "--git-dir")

    @property
    def is_shallow(self) -> bool:
        """Return whether older commits are not here."""
        told = commits.printed(self._place, "rev-parse", "--is-shallow-repository")
        return told.strip() == b"true"

    def commit(self, revision: str) -> str:
        """Return the hash of a revision's commit.

        Raises:
            UsageProblem: If git knows no such commit.
        """
        arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options")
        try:
            told = commits.printed(self._place, *arguments, f"{revision}^{{commit}}")
        except UsageProblem:
            msg = f"'{revision}' names no commit"
            advice = (
                "`git log` lists commits; a shallow clone lacks old ones: git fetch --unshallow"
            )
            raise UsageProblem(msg, where=str(self._place), next_step=advice) from None
        return told.decode().strip()

    def read(self, commit: str, names: Collection[str] | None = None) -> Stored:
        """Return the baselines of a commit; all, or those of these files' names."""
        listed = commits.printed(
            self._place, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"{self._path}/"
        )
        with tempfile.TemporaryDirectory() as scratch:
            for text in filter(None, listed.decode(errors="surrogateescape").split("\0")):
                path = Path(text).relative_to("" if self._path == "." else self._path)
                if _is_baseline(path) and (names is None or path.stem in names):
                    data = commits.printed(self._place, "cat-file", "blob", f"{commit}:./{text}")
                    target = Path(scratch) / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            return read_all(Baselines(Path(scratch)))

    def commits(self, names: Collection[str]) -> list[Commit]:
        """Return the commits that changed files of these names, the newest first."""
        folder = "" if self._path == "." else f"{glob.escape(self._path)}/"
        paths = [
            f":(glob){folder}{place}{glob.escape(name)}{SUFFIX}"
            for name in names
            for place in ("", "*/")
        ]
        form = "%H%x1f%P%x1f%cI%x1f%an%x1f%s"
        told = commits.printed(
            self._place, "log", "--no-show-signature", f"--format={form}", "--", *paths
        )
        lines = told.decode(errors="replace").split("\n")
        return [_commit(line) for line in lines if line]


def _is_baseline(path: Path) -> bool:
    """Return whether a path in the folder is that of a baseline."""
    inside = 2  # environment and file
    is_store = path.parts[0] == ARTEFACTS
    return path.suffix == SUFFIX and len(path.parts) <= inside and not is_store


def _commit(line: str) -> Commit:
    commit, parents, date, author, subject = line.split(_BETWEEN, 4)
    first = parents.split(" ", maxsplit=1)[0]
    return Commit(hash=commit, parent=first, date=date, author=author, subject=subject)
