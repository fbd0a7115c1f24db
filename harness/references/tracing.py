"""Intermediate values of a PyTorch module, under the names that its ONNX export gives them.

The module goes through the same exporter as a candidate does, because its values are named after
the operators of the exported program. Where it cannot be exported, the outputs of its submodules
are recorded instead, under the modules' names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from harness.domain import dtypes
from harness.domain.values import Value, Values
from harness.references import frameworks

#: How values are named: after operators of the exported program, or after submodules.
OPERATORS, MODULES = "operators", "modules"
#: What is seen of each value: name, element type, shape, bytes.
Known = list[tuple[str, str, list[int], int]]


class Trace:
    """Runs a module and keeps what it computes on the way.

    Args:
        module: The reference.
        example: Inputs that it is exported with.
        request: How it is exported, as for `frameworks.export`.
    """

    def __init__(self, module: Any, example: Values, request: Mapping[str, Any]) -> None:
        self._module = module
        try:
            made = frameworks.torch_program(module, example, request, optimize=False)
            program = made.exported_program
        except Exception:  # noqa: BLE001 - whatever torch cannot export still has submodules
            self.method = MODULES
        else:
            self.method = OPERATORS
            self._program = program

    def values(self, feeds: Values, names: Collection[str] | None) -> tuple[Known, Values]:
        """Return what there is, and the values of `names`; without names no value."""
        keeper = _Keeper(frozenset(names or ()), wants_all=names is None)
        run = self._run_modules if self.method == MODULES else self._run_operators
        run(feeds, keeper)
        return keeper.known, keeper.kept

    def _run_operators(self, feeds: Values, keeper: _Keeper) -> None:
        import torch

        tensors = [frameworks.to_torch(value) for value in feeds.values()]
        given = iter(tensors)
        kinds = torch.export.graph_signature.InputKind
        state, constants = self._program.state_dict, self._program.constants
        arguments = []
        for spec in self._program.graph_signature.input_specs:
            if spec.kind is kinds.USER_INPUT:
                arguments.append(next(given))
            else:
                stored = state.get(spec.target, constants.get(spec.target))
                arguments.append(stored)
        interpreter = _interpreter(self._program.graph_module, keeper)
        with torch.inference_mode():
            interpreter.run(*arguments)

    def _run_modules(self, feeds: Values, keeper: _Keeper) -> None:
        import torch

        calls: dict[str, int] = {}
        hooks = [
            module.register_forward_hook(_hook(name, calls, keeper))
            for name, module in self._module.named_modules()
            if name
        ]
        try:
            with torch.inference_mode():
                result = self._module(*[frameworks.to_torch(value) for value in feeds.values()])
        finally:
            for hook in hooks:
                hook.remove()
        _see_outputs(result, keeper)
        keeper.drop({name for name, count in calls.items() if count > 1})


class _Keeper:
    """Notes every value, keeps those that were asked for."""

    def __init__(self, names: frozenset[str], *, wants_all: bool) -> None:
        self._names = names
        self._wants_all = wants_all
        self.known: Known = []
        self.kept: dict[str, Value] = {}

    def see(self, name: str, value: Any) -> None:
        import torch

        if not isinstance(value, torch.Tensor):
            return
        if self._wants_all:
            nbytes = value.numel() * value.element_size()
            sample = frameworks.from_torch(value.new_empty(0))
            dtype = str(dtypes.of_array(np.asarray(sample)))
            self.known.append((name, dtype, list(value.shape), nbytes))
        elif name in self._names:
            self.kept[name] = frameworks.from_torch(value.clone())

    def drop(self, names: set[str]) -> None:
        """Forget modules that ran more than once: nothing tells which of their values is which."""
        self.known = [each for each in self.known if each[0] not in names]
        self.kept = {name: value for name, value in self.kept.items() if name not in names}


def _interpreter(graph_module: Any, keeper: _Keeper) -> Any:
    """Return an interpreter of an exported program that shows every value to `keeper`."""
    import torch

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]  # torch has no types here
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            if n.op in {"call_function", "placeholder"}:
                keeper.see(n.name, result)
            elif n.op == "output":
                _see_outputs(result, keeper)
            return result

    return Recorder(graph_module)


def _see_outputs(result: Any, keeper: _Keeper) -> None:
    """Show the program's outputs by position: the export may have renamed them."""
    if isinstance(result, Mapping):
        result = list(result.values())
    results: Sequence[Any] = result if isinstance(result, tuple | list) else [result]
    for index, value in enumerate(results):
        keeper.see(f"output:{index}", value)


def _hook(name: str, calls: dict[str, int], keeper: _Keeper) -> Callable[..., None]:
    def note(_module: Any, _inputs: Any, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        keeper.see(name, output)

    return note
