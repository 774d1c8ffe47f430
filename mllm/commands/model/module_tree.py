"""The tree of a model's modules as text: shapes, parameters, dtype, what is trained; equal layers are told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from mllm.compat.peft import AdaptedLayer
from mllm.models.adapters.selection import is_adapter
from mllm.models.meta_device import QuantizedLinearStub

LISTS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRow:
    """A module, or several equal ones that follow one another.

    Attributes:
        shape: of its largest own parameter; "" where it only holds other modules.
        parameters: of all the equal ones together, tied ones once.
        trains: "yes", "no", "partly", or the kind of adapters that are trained beside it.
    """

    depth: int
    name: str
    kind: str
    shape: str
    parameters: int
    dtype: str
    trains: str


def module_tree(model: nn.Module) -> list[ModuleRow]:
    """The rows in the order of the modules; those without parameters are left out.

    Inside equal layers told once, the rows are of one layer.
    """
    rows: list[ModuleRow] = []
    _add(rows, type(model).__name__, [model], 0, set())
    return rows


def format_rows(rows: list[ModuleRow]) -> str:
    table = [("module", "shape", "parameters", "dtype", "trains")]
    for row in rows:
        named = f"{'  ' * row.depth}{row.name}" + (f" ({row.kind})" if row.kind else "")
        table.append((named, row.shape, f"{row.parameters:,}", row.dtype, row.trains))
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    lines = []
    for name, shape, parameters, dtype, trains in table:
        line = f"{name:{widths[0]}}  {shape:{widths[1]}}  {parameters:>{widths[2]}}  {dtype:{widths[3]}}  {trains}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _add(rows: list[ModuleRow], name: str, equal: list[nn.Module], depth: int, seen: set[int]) -> None:
    """`seen`: parameters told already, by their id: a tied one is told where it comes first."""
    module = equal[0]
    parameters = {id(p): p for one in equal for p in one.parameters() if id(p) not in seen}
    own = [*module.parameters(recurse=False)] if not isinstance(module, AdaptedLayer) else [_base(module).weight]
    leaf = isinstance(module, AdaptedLayer) or not any(_counts(child) for child in module.children())
    if not parameters and not own:
        return
    largest = max(own, key=lambda parameter: parameter.numel(), default=None)
    kind = "Linear" if isinstance(_base(module), QuantizedLinearStub) else type(_base(module)).__name__
    rows.append(
        ModuleRow(
            depth=depth,
            name=name,
            kind=("" if depth == 0 else kind) if len(equal) == 1 else f"{len(equal)} x {kind}",
            shape="" if largest is None else str(list(largest.shape)),
            parameters=sum(parameter.numel() for parameter in parameters.values()),
            dtype=_dtype(_base(module), largest) if largest is not None else "",
            trains=_trains(module) if parameters else "tied",
        )
    )
    if not leaf:
        for inner_name, inner in _groups(module):
            _add(rows, inner_name, inner, depth + 1, seen)
    seen.update(parameters)


def _groups(module: nn.Module, prefix: str = "") -> list[tuple[str, list[nn.Module]]]:
    """The children, those of lists under the list's name; equal neighbours together."""
    found: list[tuple[str, list[nn.Module]]] = []
    for name, child in module.named_children():
        if not _counts(child):
            continue
        if isinstance(child, LISTS) and not isinstance(module, LISTS):
            found += _groups(child, f"{prefix}{name}.")
        elif found and isinstance(module, LISTS) and _follows(name, found[-1][0]) and _same(found[-1][1][0], child):
            first = found[-1][0].rpartition("-")[0] or found[-1][0]
            found[-1] = (f"{first}-{name}", [*found[-1][1], child])
        else:
            found.append((prefix + name, [child]))
    return found


def _follows(name: str, before: str) -> bool:
    """Whether number `name` comes next after "0", "layers.0" or "layers.0-2"."""
    return int(name) == int(before.replace("-", ".").rpartition(".")[2]) + 1


def _same(one: nn.Module, other: nn.Module) -> bool:
    return _signature(one) == _signature(other)


def _signature(module: nn.Module) -> list[object]:
    kinds: list[Any] = [(name, type(inner)) for name, inner in module.named_modules()]
    return kinds + [(name, p.shape, p.dtype, p.requires_grad) for name, p in module.named_parameters()]


def _counts(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _base(module: nn.Module) -> Any:
    """The layer itself, without the adapters around it."""
    return module.get_base_layer() if isinstance(module, AdaptedLayer) else module


def _dtype(layer: nn.Module, parameter: nn.Parameter) -> str:
    if isinstance(layer, QuantizedLinearStub):
        return f"{8 * layer.stored / parameter.numel():.1f} bit"
    return str(parameter.dtype).removeprefix("torch.")


def _trains(module: nn.Module) -> str:
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    if not trained:
        return "no"
    if all(is_adapter(f".{name}") for name in trained):
        return "DoRA" if any("lora_magnitude_vector" in name for name in trained) else "LoRA"
    return "yes" if len(trained) == len(list(module.parameters())) else "partly"
