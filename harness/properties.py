"""The question of the properties suite: no drawn input breaks parity or a declared law.

Examples come from `harness.search`; here each one is filled, run and judged, and what fails is
told, kept, and judged first in the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import ClassVar

from harness.domain.cells import Cell
from harness.domain.compare import compare
from harness.domain.examples import Example, Space
from harness.domain.exercised import LAW_COUNTERS, unexercised
from harness.domain.findings import Finding, Severity, from_error
from harness.domain.metamorphic import Law, Steps, batch_law, padding_law, permutation_law
from harness.domain.receipts import Receipt
from harness.domain.spec import ModelSpec, OutputSpec
from harness.domain.tolerance import judged_whole
from harness.domain.values import Array, Values
from harness.errors import HarnessError, RunFailed, WorkerDied, labelled_lines
from harness.evidence import Evidence
from harness.files import cases, recipes
from harness.references.store import run_steps
from harness.runtimes.sessions import Session
from harness.search import Plan, smallest_counterexample, version

Found = tuple[Iterable[Finding], Receipt]
#: Runs reference and candidate on the same inputs and compares what they give.
Compared = Callable[[Cell, Steps], Found]
#: The first words of each law's finding.
TITLES = {
    "property.parity": "Parity fails for an input that the spec declares",
    "property.run": "Candidate fails to run an input that the spec declares",
    "property.repeat": "Another run gives other bits",
    "property.threads": "Another number of threads gives another result",
    "property.batch": "A row alone gives another result than in its batch",
    "property.padding": "Padding changes what stands before it",
    "property.permutation": "Another order gives other results",
}


def outside_search(spec: ModelSpec, cell: Cell) -> Finding | None:
    """Return why a model's input space cannot be searched, or None if it can."""
    if spec.properties.not_applicable is not None:
        reason, key = spec.properties.not_applicable, "properties.not_applicable"
    elif spec.reference.recorded is not None:
        reason, key = "its reference is recorded and answers no other inputs", "reference.recorded"
    elif not spec.inputs:
        reason, key = "its spec declares no input", "inputs"
    else:
        return None
    return Finding(
        code="property.not-applicable",
        what=f"Nothing to search for '{cell.model}': {reason}",
        where=f"spec, {key}",
    )


class InputSearch:
    """Searches the input space of one model on one provider."""

    #: What a run may end with as its inputs are. Everything else ends the search, because every
    #: example would meet it, or because meeting it takes as long as the limit allows.
    OF_INPUTS: ClassVar = frozenset({"run.failed", "worker.signal", "worker.exit"})

    def __init__(self, evidence: Evidence, cell: Cell, *, compared: Compared) -> None:
        self._evidence = evidence
        self._cell = cell
        self._compared = compared
        self._model = evidence.model(cell)
        self._spec = self._model.spec.of(cell.variant)
        self._folder = recipes.failure_folder(evidence.cache, cell)
        self._refused: list[tuple[Example, HarnessError]] = []
        self._receipt = Receipt(counts={"examples_judged": 0})
        self._worst = 0.0
        self._judged: dict[tuple[str, str], tuple[Finding, ...]] = {}
        self._sessions: dict[int, Session] = {}

    def judge(self) -> Found:
        """Return a finding for each broken law, and what was searched."""
        library = version()
        real = cases.real_inputs(self._spec, self._model.folder)
        usable = {name: held for name, held in real.items() if all(
            array.size for array in held.values())}  # fmt: skip
        self._space = Space(spec=self._spec, real=usable)
        with ExitStack() as stack:
            for threads in self._spec.properties.threads:
                further = self._evidence.session_of_threads(self._cell, threads)
                self._sessions[threads] = stack.enter_context(further)
            broken, replayed = self._replay()
            broken |= self._search(broken)
            findings = [self._told(code, example) for code, example in broken.items()]
        findings += self._refusal()
        if not findings:
            findings += unexercised(self._space, self._receipt)
        return findings, self._receipt.plus(facts=self._facts(library, replayed))

    def _replay(self) -> tuple[dict[str, Example], int]:
        """Judge what failed before; forget what fails no more."""
        found, useless = recipes.kept(self._folder, self._spec)
        for file in useless:
            recipes.forget(self._folder, file.stem)
        broken = {}
        for recipe in found:
            if any(finding.code == recipe.code for finding in self._findings(recipe.example)):
                broken[recipe.code] = recipe.example
            else:
                recipes.forget(self._folder, recipe.code)
        return broken, len(found)

    def _search(self, known: dict[str, Example]) -> dict[str, Example]:
        """Return the smallest failing example of each law that is not known to be broken."""
        broken: dict[str, Example] = {}
        while True:
            target: list[str] = []
            fails = partial(self._fails, {*known, *broken}, target)
            example = smallest_counterexample(self._space, fails, self._plan())
            if example is None:
                return broken
            broken[target[0]] = example

    def _fails(self, told: set[str], target: list[str], example: Example) -> bool:
        """Return whether an example breaks a law; once one is broken, only that law counts."""
        codes = [each.code for each in self._findings(example, *target) if each.code not in told]
        if codes and not target:
            target.append(codes[0])
        return bool(codes)

    def _plan(self) -> Plan:
        seed = "" if self._evidence.seed is None else str(self._evidence.seed)
        digest = hashlib.sha256(f"{seed}:{self._cell.model}".encode()).digest()
        return Plan(
            examples=self._spec.properties.count(self._evidence.profile),
            seed=int.from_bytes(digest[:8], "little"),
            home=self._evidence.cache / "hypothesis",
        )

    def _findings(self, example: Example, only: str = "") -> tuple[Finding, ...]:
        """Return what an example breaks, judged once; `only` asks for one law."""
        key = (repr(example), only)
        whole = (key[0], "")
        if whole not in self._judged and key not in self._judged:
            self._judged[key] = tuple(self._judge(example, only))
        found = self._judged.get(whole, self._judged.get(key, ()))
        return tuple(finding for finding in found if only in {"", finding.code})

    def _judge(self, example: Example, only: str) -> Iterator[Finding]:
        steps = self._space.fill(example)
        if only in {"", "property.parity", "property.run"}:
            parity = list(self._parity(example, steps))
            yield from parity
            if any(finding.code != "property.parity" for finding in parity):
                return  # it was refused or did not run: no law says anything about it
        if self._refused and self._refused[-1][0] == example:
            return
        yield from self._laws(example, steps, only)

    def _parity(self, example: Example, steps: Steps) -> Iterator[Finding]:
        try:
            findings, receipt = self._compared(self._cell, steps)
        except (RunFailed, WorkerDied) as error:
            if error.code == "reference.failed":
                self._evidence.reference_lives(self._cell)
                self._refused.append((example, error))
                return
            if error.code not in self.OF_INPUTS:
                raise _with_example(error, example) from None
            yield self._broken("property.run", example, [from_error(error)])
            return
        worst = float(receipt.facts.get("worst", 0.0))
        self._worst = max(self._worst, worst)
        own = {name: fact for name, fact in receipt.facts.items() if name in KEPT_FACTS}
        counts = {**receipt.counts, "examples_judged": 1}
        self._receipt = self._receipt.plus(counts=counts, facts=own)
        if found := [each for each in findings if each.severity is not Severity.NOTE]:
            yield self._broken("property.parity", example, found)

    def _laws(self, example: Example, steps: Steps, only: str) -> Iterator[Finding]:
        laws = [law for law in self._declared_laws(example, steps) if only in {"", law.code}]
        again = self._spec.properties.repetitions > 1 and only in {"", "property.repeat"}
        threads = self._sessions if only in {"", "property.threads"} else {}
        if not (laws or again or threads):
            return
        try:
            whole = self._evidence.just_run(self._cell, steps)
        except (RunFailed, WorkerDied) as error:
            if error.code not in self.OF_INPUTS:
                raise _with_example(error, example) from None
            return  # a matter of parity: no law says anything about what does not run
        rules = self._rules(whole)
        exact = dict.fromkeys(whole[0], OutputSpec(compare="exact", finite="same-positions"))
        for number in range(2, self._spec.properties.repetitions + 1 if again else 0):
            got = self._evidence.run(self._cell, steps)
            yield from self._agree("property.repeat", f"run {number}", example, whole, got, exact)
        for count, session in threads.items():
            run = partial(_outputs, session, self._spec.limits.run_s)
            got = run_steps(run, steps, self._spec)
            says = f"{count} threads instead of {self._spec.session.threads}"
            yield from self._agree("property.threads", says, example, whole, got, rules)
        for law in laws:
            yield from self._keeps(law, example, whole)

    def _declared_laws(self, example: Example, steps: Steps) -> list[Law]:
        spec, dims, pick = self._spec, example.dims, example.pick
        facts = self._evidence.file(self._cell)[1]
        laws = (
            batch_law(spec, steps, dims, pick),
            padding_law(spec, steps, dims, pick),
            permutation_law(spec, steps, dims, pick, inputs=facts.inputs, outputs=facts.outputs),
        )
        return [law for law in laws if law is not None]

    def _keeps(self, law: Law, example: Example, whole: Steps) -> Iterator[Finding]:
        try:
            other = self._evidence.run(self._cell, law.inputs)
        except (RunFailed, WorkerDied) as error:
            if error.code not in self.OF_INPUTS:
                raise _with_example(error, example) from None
            yield self._broken(law.code, example, [from_error(error)], says=law.says)
            return
        reference, candidate = law.sides(whole, other)
        yield from self._agree(
            law.code, law.says, example, reference, candidate, self._rules(whole)
        )

    def _rules(self, whole: Steps) -> dict[str, OutputSpec]:
        """Return how two runs of the candidate are compared: as parity does, NaN by position."""
        rules = {name: self._spec.outputs.get(name, OutputSpec()) for name in whole[0]}
        return {
            name: replace(rule, finite="same-positions", dtype=None) for name, rule in rules.items()
        }

    def _agree(
        self,
        code: str,
        says: str,
        example: Example,
        whole: Steps,
        other: Steps,
        rules: dict[str, OutputSpec],
    ) -> Iterator[Finding]:
        """Compare two runs of the candidate, the first of which is the one that is trusted."""
        found: list[Finding] = []
        for reference, candidate in zip(whole, other, strict=True):
            comparison = compare(
                reference=reference,
                candidate=candidate,
                outputs=rules,
                provider=self._cell.provider,
                cell=str(self._cell),
                bound=judged_whole(self._spec, self._cell.variant, self._cell.provider),
            )
            found += comparison.findings
            self._receipt = self._receipt.plus(counts={LAW_COUNTERS[code]: 1})
        if found:
            yield self._broken(code, example, found, says=says)

    def _broken(
        self, code: str, example: Example, found: list[Finding], *, says: str = ""
    ) -> Finding:
        """Return the finding on a broken law, with the example and what was found first."""
        first = found[0]
        return Finding(
            code=code,
            what=f"{TITLES[code]}: {first.what}",
            where="\n".join(filter(None, [f"example: {example}", says, first.where])),
            expected=first.expected,
            got="\n".join(filter(None, [first.got, f"({first.code})"])),
        )

    def _told(self, code: str, example: Example) -> Finding:
        """Return the finding of the smallest example, kept on disk, and how to keep it for good."""
        finding = next(each for each in self._findings(example, code) if each.code == code)
        whole = self._spec.state.steps if self._spec.state else 0
        arrays = _as_case(self._space.fill(example, steps=whole))
        recipe = recipes.Recipe(cell=str(self._cell), code=code, example=example)
        file, inputs = recipes.keep(self._folder, recipe, arrays)
        lines = [f"kept in {file}, and judged first in the next run"]
        if code in {"property.parity", "property.run"}:
            lines += _case_lines(example, inputs, self._model.folder)
        if code == "property.parity":
            lines.append(f"`onnx-harness localise {self._cell}/found` then tells where it begins")
        return replace(finding, next_step="\n".join(lines))

    def _refusal(self) -> list[Finding]:
        if not self._refused:
            return []
        example, error = min(self._refused, key=lambda pair: self._space.elements(pair[0].dims))
        sizes = ", ".join(f"{name} = {size}" for name, size in example.dims.items())
        count = len(self._refused)
        return [
            Finding(
                code="property.refused",
                what=f"Reference of '{self._cell.model}' refuses {count} "
                f"{'example' if count == 1 else 'examples'} that the spec declares, "
                f"the smallest at {sizes or 'its only size'}",
                where=f"example: {example}\n{self._model.spec_file}, dims",
                expected="an answer for every size within dims",
                got="\n".join(labelled_lines(error)),
                next_step="narrow dims (or range) to what the model is meant for, "
                "or mend the reference",
            )
        ]

    def _facts(self, library: str, replayed: int) -> dict[str, str]:
        seed, properties = self._evidence.seed, self._spec.properties
        facts = {
            "profile": f"{self._evidence.profile}, {properties.count(self._evidence.profile)} "
            "examples asked for",
            "seed": "by model" if seed is None else str(seed),
            "search": f"hypothesis {library}",
            "worst": f"{self._worst:.4g}",
        }
        largest = {name: size.max for name, size in self._spec.dims.items()}
        if (fitting := self._space.fitting(largest)) != largest:
            shown = ", ".join(f"{name} = {size}" for name, size in fitting.items())
            facts["cut_down"] = f"to {properties.max_elements} elements: at most such as {shown}"
        if properties.leave_out is not None:
            kinds, reason = properties.leave_out.kinds, properties.leave_out.reason
            facts["left_out"] = f"{', '.join(kinds)}: {reason}"
        if replayed:
            facts["replayed"] = str(replayed)
        return facts


#: What of a comparison's facts holds for all examples.
KEPT_FACTS = frozenset({"runtime", "start_method", "provider", "model", "tolerance"})


def _outputs(session: Session, limit_s: float, feeds: Values) -> Values:
    return session.run(feeds, limit_s=limit_s).outputs


def _with_example(error: HarnessError, example: Example) -> HarnessError:
    return type(error)(
        error.what,
        code=error.code,
        where="\n".join(filter(None, [f"example: {example}", error.where])),
        expected=error.expected,
        got=error.got,
        next_step=error.next_step,
        cause=error.cause,
    )


def _as_case(steps: Steps) -> dict[str, Array]:
    """Return the arrays as a case's file holds them: steps on a leading axis, states without."""
    import numpy as np  # noqa: PLC0415 - only failures are written

    first, *later = steps
    return {
        name: np.stack([np.asarray(value), *(np.asarray(step[name]) for step in later)])
        if later and name in later[0]
        else np.asarray(value)
        for name, value in first.items()
    }


def _case_lines(example: Example, inputs: object, folder: object) -> Iterator[str]:
    dims = ", ".join(f"{name} = {size}" for name, size in example.dims.items())
    yield f"to keep it as a case: copy {inputs}"
    yield f"to {folder}/cases/found.npz and add to model.toml"
    yield "[[case]]"
    yield 'name = "found"'
    if dims:
        yield f"dims = {{ {dims} }}"
    yield 'inputs = "cases/found.npz"'
