"""The search itself: which kind of failure it is, which optimisation makes it, which node.

One pass from the first node to the last: the values between nodes come from a trusted run, in
batches that memory can hold; every block of a batch is run on these values, all blocks side by
side in one session; what differs from the trusted outputs is what the block introduces.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.builds.candidates import example, export_fields
from harness.domain.cells import Cell
from harness.domain.compare import Comparison, compare
from harness.domain.session import CPU_PROVIDER, SessionConfig
from harness.domain.spec import Export
from harness.domain.values import Values
from harness.errors import HarnessError
from harness.evidence import Evidence
from harness.files.models import Model
from harness.localise import artefacts
from harness.localise.ablation import Ablation, Trial, ablate
from harness.localise.deviations import (
    Deviation,
    Introduced,
    deviation,
    first_nan,
    first_origin,
    has_nan,
    worst,
)
from harness.localise.graph import Block, Outline, blocks, feedable
from harness.localise.report import Report
from harness.localise.scanning import Scan, Scanner
from harness.localise.telling import greatest, origin_of, outside_of, unjudged
from harness.localise.truth import GraphTruth, TorchTruth, Truth, other_graph
from harness.localise.workbench import (
    Deadline,
    Measured,
    Optimised,
    OutOfTime,
    Setup,
    Shape,
    Trusted,
    Workbench,
    measure,
)

#: Bytes of tapped values that are held at once.
BATCH_BYTES = 64 << 20
#: Protobuf ends at 2 GiB: above this, ONNX Runtime writes the weights of a graph apart.
_EXTERNAL_BYTES = 1_500_000_000
_WEIGHTS_APART = "session.optimized_model_external_initializers_file_name"
GRAPH, PROVIDER, OPTIMISATION = "graph", "provider", "optimisation"
#: What the headline says of the kind.
BECAUSE = {
    GRAPH: "the graph itself computes something else than the reference",
    PROVIDER: "the graph is right, the provider computes it differently",
    OPTIMISATION: "the graph is right, an optimisation changes it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The failing step of a cell."""

    feeds: Values
    """Its inputs, with the reference's states."""
    expected: Values
    """The reference's outputs."""
    found: Values
    """What the cell's session gives."""


def localise(
    evidence: Evidence, cell: Cell, *, budget_s: float, batch_bytes: int = BATCH_BYTES
) -> Report:
    """Return where the parity failure of a cell begins.

    Args:
        evidence: Of the run that judged the cell.
        cell: A cell whose parity fails.
        budget_s: Seconds; what was not searched by then is told.
        batch_bytes: Bytes of tapped values that are held at once.

    Raises:
        HarnessError: If model, reference or provider cannot be had; parity told that already.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="onnx-harness-") as folder:
        search = Search(evidence, cell, Deadline(budget_s), Path(folder), batch_bytes)
        try:
            report = search.report()
        except OutOfTime:
            report = search.unfinished()
    return replace(report, elapsed_s=round(time.monotonic() - started, 2))


class Search:
    """One search; holds what its steps share."""

    def __init__(
        self, evidence: Evidence, cell: Cell, deadline: Deadline, folder: Path, batch_bytes: int
    ) -> None:
        self._evidence = evidence
        self._cell = cell
        self._deadline = deadline
        self._folder = folder
        self._batch_bytes = batch_bytes
        self._model: Model = evidence.model(cell)
        tools, limits = evidence.tools(), self._model.spec.limits
        self._tools = tools
        self._path, self._facts = evidence.sound_file(cell)
        self._limits_s = (limits.load_s, limits.run_s)
        self._bench = self._workbench(self._path)
        self._actual = Setup(resolved=evidence.provider(cell), config=evidence.config(cell))
        self._trusted = Trusted(self._bench, self._cpu())
        self._kind = ""
        self._least_ulps = 0.0
        self._makes_nan = False
        self._ablation: Ablation | None = None
        self._optimised: dict[tuple[str, ...], Sequence[Optimised]] = {}
        self._level = self._actual.config.optimization
        self._outline: Outline | None = None
        self._shapes: Mapping[str, Shape] = {}

    def report(self) -> Report:
        """Return the outcome of the whole search."""
        failure = self._failure()
        if failure is None:
            return self._nowhere(
                "no step of it fails alone: on the reference's own states each step agrees, "
                "so the error builds up from step to step"
            )
        outline = self._outline = self._bench.outline()
        if outline.rounds:
            self._trusted.prefer_evaluator(self._path, failure.feeds)
        self._kind = self._decide(failure)
        if self._kind != GRAPH:
            self._ablate(failure)
        sizer = Trusted(self._bench, self._trusted.setup)
        measured = measure(self._bench, sizer, outline.values, failure.feeds)
        self._shapes = measured.shapes
        truth = self._truth(failure, outline, measured)
        if isinstance(truth, str) and self._makes_nan:  # the graph alone tells where
            truth = GraphTruth(self._bench, self._trusted, measured.sizes, failure.feeds)
        if isinstance(truth, str):
            return self._nowhere(truth, outside=outside_of(outline, measured))
        return self._search(failure, outline, measured, truth)

    def unfinished(self) -> Report:
        """Return what is known when the budget ran out before any node was judged."""
        why = f"the budget of {self._deadline.budget_s:g} s is spent: raise limits.localise_s"
        return self._nowhere(why)

    # which step, which kind

    def _failure(self) -> Failure | None:
        """Return the first step that fails on the reference's own states.

        A judge that is stricter than the table of tolerances may have failed the cell. Then the
        step with the greatest difference is taken, and a run counts as failing if it keeps more
        than half of that difference.
        """
        steps = self._evidence.inputs(self._cell)
        expected, _ = self._evidence.reference(self._cell, steps)
        candidates = []
        for step, outputs in enumerate(expected):
            feeds = self._feeds(steps, expected, step)
            found = self._bench.run(self._actual, self._path, feeds)
            failure = Failure(feeds=feeds, expected=outputs, found=found)
            if self._compared(found, outputs).findings:
                return failure
            candidates.append((_ulps(found, outputs), failure))
        most, failure = max(candidates, key=lambda pair: pair[0])
        if most == 0.0 or len(candidates) > 1:
            return None
        self._least_ulps = most / 2
        return failure

    def _feeds(self, steps: Sequence[Values], expected: Sequence[Values], step: int) -> Values:
        spec = self._model.spec
        known = dict(steps[step])
        if spec.state is not None and step:
            before = expected[step - 1]
            known.update({to: before[back] for back, to in spec.state.feedback.items()})
        return {name: known[name] for name in spec.inputs} if spec.inputs else known

    def _compared(self, found: Values, expected: Values) -> Comparison:
        own = {name: found[name] for name in expected if name in found}
        return compare(
            reference=expected,
            candidate=own,
            outputs=self._model.spec.of(self._cell.variant).outputs,
            provider=self._cell.provider,
            cell=str(self._cell),
        )

    def _fails(self, found: Values, expected: Values) -> bool:
        if self._least_ulps:
            return _ulps(found, expected) > self._least_ulps
        return bool(self._compared(found, expected).findings)

    def _decide(self, failure: Failure) -> str:
        """Return whether the graph fails under trusted arithmetic as well."""
        found = self._trusted.run(self._path, failure.feeds)
        self._makes_nan = any(has_nan(value) for value in found.values())
        return GRAPH if self._fails(found, failure.expected) else PROVIDER

    # which optimisation

    def _ablate(self, failure: Failure) -> None:
        def attempt(level: str, disabled: tuple[str, ...]) -> Trial:
            return self._attempt(failure, level, disabled)

        highest = self._actual.config.optimization
        version = self._tools.runtimes.facts(self._actual.resolved.runtime).version
        self._ablation = ablate(attempt, highest=highest, version=version)
        if self._ablation.is_optimisation:
            self._kind, self._level = OPTIMISATION, self._ablation.level

    def _attempt(self, failure: Failure, level: str, disabled: tuple[str, ...]) -> Trial:
        """Run the whole model at a level; where its graph cannot be saved, without its hash."""
        setup, target = self._actual.at(level, disabled), self._bench.fresh("optimised")
        try:
            return self._trial(failure, setup, target, disabled)
        except HarnessError as error:
            if disabled:
                return Trial(fails=True, refused=error.what)
        try:
            found = self._bench.run(setup, self._path, failure.feeds)
        except HarnessError as error:
            return Trial(fails=False, refused=error.what)
        return Trial(fails=self._fails(found, failure.expected))

    def _trial(
        self, failure: Failure, setup: Setup, target: Path, disabled: tuple[str, ...]
    ) -> Trial:
        weights = target.with_suffix(".weights")
        if self._facts.size_bytes > _EXTERNAL_BYTES:
            setup = setup.with_entry(_WEIGHTS_APART, weights.name)
        with self._bench.open(setup, self._path, optimized_file=target) as session:
            found = self._bench.run_session(session, failure.feeds)
            logged = session.facts.optimizers
        graph, nodes = self._bench.structure(target)
        target.unlink()  # it holds all weights
        weights.unlink(missing_ok=True)
        self._optimised[setup.config.optimization, *disabled] = nodes
        return Trial(fails=self._fails(found, failure.expected), graph=graph, optimizers=logged)

    # trusted values

    def _truth(self, failure: Failure, outline: Outline, measured: Measured) -> Truth | str:
        """Return the trusted values, or why there are none."""
        if self._kind != GRAPH:
            return GraphTruth(self._bench, self._trusted, measured.sizes, failure.feeds)
        match self._model.spec.reference.kind:
            case "torch":
                return self._torch_truth(failure, outline)
            case "onnx":
                return self._onnx_truth(failure, outline, measured)
            case kind:
                return (
                    f"{BECAUSE[GRAPH]}, and a '{kind}' reference has no values of its own "
                    "between its inputs and outputs"
                )

    def _torch_truth(self, failure: Failure, outline: Outline) -> Truth | str:
        if not outline.has_metadata:
            return (
                f"{BECAUSE[GRAPH]}, and the file lacks the exporter's metadata "
                "(pkg.torch.onnx.*), so its values cannot be matched to PyTorch's"
            )
        source = self._model.spec.source(self._cell.variant).export
        export = source or Export(opset=outline.opset)
        fields = export_fields(self._model, export, self._folder / "traced.onnx")
        truth = TorchTruth(
            self._tools.references.live(self._model),
            outline,
            feeds=failure.feeds,
            example=example(self._model.spec),
            fields=fields,
            deadline=self._deadline,
        )
        if not truth.sizes:
            return f"{BECAUSE[GRAPH]}, and none of its values has a counterpart in PyTorch"
        return truth

    def _onnx_truth(self, failure: Failure, outline: Outline, measured: Measured) -> Truth | str:
        other = self._model.spec.reference.onnx
        if isinstance(other, str):
            bench = self._workbench(self._model.folder / other)
            trusted = Trusted(bench, self._trusted.setup)
            truth = other_graph(bench, trusted, outline, failure.feeds)
            if truth.sizes:
                return truth
            return f"{BECAUSE[GRAPH]}, and '{other}' has no value of the same name"
        evaluator = Trusted(self._bench, self._trusted.setup)
        evaluator.evaluates = True
        return GraphTruth(self._bench, evaluator, measured.sizes, failure.feeds)

    # which node

    def _search(
        self, failure: Failure, outline: Outline, measured: Measured, truth: Truth
    ) -> Report:
        known = [name for name, size in truth.sizes.items() if measured.sizes.get(name, -1) == size]
        scanner = Scanner(
            self._bench,
            self._trusted,
            runner=self._runner(),
            measured=measured,
            batch_bytes=self._batch_bytes,
        )
        found = feedable(blocks(outline, known), outline.weights)
        scan = scanner.scan(found, truth, failure.feeds)
        picked = self._origin(scan, failure)
        if picked is None and self._kind == OPTIMISATION:
            fused = scanner.scan(self._fused(outline, known), truth, failure.feeds)
            scan = scan.plus(fused)
            picked = self._origin(fused, failure)
        outside = (*outside_of(outline, measured), *unjudged(outline, found, scan, measured))
        report = self._told(scan, outline, truth, outside)
        if picked is None:
            return self._spread(report, scan)
        return self._found(report, picked, failure, truth)

    def _runner(self) -> Setup | None:
        """Return how blocks are run: as the cell is; None if the graph is what is wrong."""
        return None if self._kind == GRAPH else self._actual.at(self._level)

    def _origin(self, scan: Scan, failure: Failure) -> tuple[Introduced, str] | None:
        """Return the block where the error begins, with what is special about it."""
        if any(has_nan(value) for value in failure.found.values()):
            maker = first_nan(scan.introduced)
            if maker is not None:
                return maker, "(the first NaN: none of its inputs holds one)"
        one, alone = first_origin(scan.introduced)
        if one is None:
            return None
        if alone:
            return one, ""
        return one, f"(every {one.block.last.op} introduces about as much)"

    def _fused(self, outline: Outline, known: Sequence[str]) -> tuple[Block, ...]:
        """Return what the culprit fused: blocks of original nodes behind each new node.

        An optimiser's product has no counterpart among single nodes, so these would all look
        right. Its outputs still have the names that they have in the model.
        """
        ablation = self._ablation
        if ablation is None:
            return ()
        fused = self._optimised.get((ablation.level,), ())
        plain = self._optimised.get((ablation.level, *ablation.switched_off), ())
        before = {(op, tuple(given)) for op, _, given in plain}
        new = [(op, given) for op, _, given in fused if (op, tuple(given)) not in before]
        alive = {name for _, read, given in fused for name in (*read, *given)} & set(known)
        ends = {name for _, given in new for name in given}
        found = feedable(blocks(outline, alive), outline.weights)
        return tuple(block for block in found if ends & set(block.outputs))

    # telling it

    def _found(
        self, report: Report, picked: tuple[Introduced, str], failure: Failure, truth: Truth
    ) -> Report:
        one, note = picked
        values = truth.values((*one.block.inputs, *one.block.outputs))
        total, tapping = self._observed(one.block, values, failure)
        origin = origin_of(one, note, total)
        headline = (
            f"'{self._cell}' begins to fail at node {origin.node} ({origin.operator}): "
            f"{BECAUSE[self._kind]}"
        )
        report = replace(report, headline=headline, origin=origin, tapping=tapping)
        return self._saved(report, one.block, values)

    def _observed(self, block: Block, values: Values, failure: Failure) -> tuple[Deviation, str]:
        """Return the block's error in the whole run, and what looking at it changed."""
        plain = failure.found
        tapped = self._bench.run(self._actual, self._bench.tapped(block.outputs), failure.feeds)
        total = worst([
            deviation(reference=values[name], candidate=tapped[name]) for name in block.outputs
        ])
        own = {name: tapped[name] for name in plain}
        changed = compare(
            reference=plain, candidate=own, outputs={}, provider="cpu", cell=str(self._cell)
        ).worst
        before = self._compared(plain, failure.expected).worst
        after = self._compared(own, failure.expected).worst
        if changed == 0.0 and before == after:
            return total, ""
        return total, (
            f"tapping this node changes the final outputs (a fusion is gone): worst / allowed "
            f"{before:.3g} without the tap, {after:.3g} with it"
        )

    def _spread(self, report: Report, scan: Scan) -> Report:
        none = "no node introduces more than rounding: the error builds up over many nodes"
        unfinished = "" if scan.complete else ", as far as the budget reached"
        headline = f"'{self._cell}': {none}{unfinished}; {BECAUSE[self._kind]}"
        return replace(report, headline=headline, greatest=greatest(scan))

    def _told(self, scan: Scan, outline: Outline, truth: Truth, outside: tuple[str, ...]) -> Report:
        judged = {node.index for each in scan.introduced for node in each.block.nodes}
        return Report(
            cell=str(self._cell),
            kind=self._kind,
            headline="",
            culprit=self._culprit(),
            levels=self._ablation.levels if self._ablation else (),
            truth=truth.name,
            outside=outside,
            judged=len(judged),
            total=len(outline.nodes),
            batches=scan.batches,
            largest_batch_bytes=scan.largest_bytes,
        )

    def _saved(self, report: Report, block: Block, values: Values) -> Report:
        """Write the block as a model of its own, with its inputs."""
        folder = artefacts.folder_of(self._tools.cache, str(self._cell))
        folder.mkdir(parents=True, exist_ok=True)
        inputs = {name: values[name] for name in block.inputs}
        self._bench.cut([block], inputs, self._shapes, target=folder / artefacts.MODEL)
        report = replace(report, folder=str(folder))
        artefacts.save(
            folder,
            inputs=inputs,
            expected={name: values[name] for name in block.outputs},
            setup=self._runner() or self._trusted.setup,
            report=report.as_json(),
        )
        return report

    def _nowhere(self, why: str, outside: tuple[str, ...] = ()) -> Report:
        return Report(
            cell=str(self._cell),
            kind=self._kind,
            headline=f"'{self._cell}': where the failure begins was not found: {why}",
            culprit=self._culprit(),
            levels=self._ablation.levels if self._ablation else (),
            outside=outside,
            total=len(self._outline.nodes) if self._outline else 0,
        )

    def _culprit(self) -> str:
        if self._ablation is not None:
            return self._ablation.text()
        off = "it fails on the CPU with every optimisation off"
        return f"none: {off}" if self._kind == GRAPH else ""

    def _workbench(self, path: Path) -> Workbench:
        return Workbench(
            self._tools,
            path,
            limits_s=self._limits_s,
            deadline=self._deadline,
            folder=self._folder,
        )

    def _cpu(self) -> Setup:
        """Return the trusted session: none of the spec's entries, which may be what is wrong."""
        return Setup(
            resolved=self._tools.runtimes.resolve("cpu"),
            config=SessionConfig(
                provider=CPU_PROVIDER,
                optimization="disabled",
                custom_ops=self._actual.config.custom_ops,
            ),
        )


def _ulps(found: Values, expected: Values) -> float:
    """Return the greatest deviation of a run's outputs from the reference's."""
    return worst([
        deviation(reference=value, candidate=found.get(name)) for name, value in expected.items()
    ]).ulps
