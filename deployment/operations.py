"""How many operations a program has as it was written, and as XLA compiled it: what fusion leaves of it."""

import re
from collections.abc import Callable
from typing import Any

_FREE_BEFORE = {'func.return', *(f'stablehlo.{name}' for name in (
    'broadcast_in_dim', 'constant', 'dynamic_broadcast_in_dim', 'dynamic_reshape', 'reshape', 'return'))}
_FREE_AFTER = {'bitcast', 'constant', 'get-tuple-element', 'parameter', 'tuple'}  # nothing is computed for them
_KERNELS = {'convolution', 'dot', 'reduce', 'reduce-window'}  # no two of them in one loop of a library
_BRANCHES = {'stablehlo.while', 'stablehlo.case', 'stablehlo.if'}
_CALLED = re.compile(r'(?:to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)')
_CALLED_LIST = re.compile(r'branch_computations=\{([^}]*)\}')


def count(lowered: Any) -> tuple[int, int]:
    """Returns the numbers of operations before and after XLA's optimisation.

    Before: operations of StableHLO but those that compute nothing (constants, reshapes, values that are repeated), and
    but single numbers and lists of whole numbers, which are shapes and count rounds of loops. After: what the compiled
    program carries out one after the other, where a fusion, whatever is in it, counts once; constants, parameters and
    other views of memory do not count. What is handed to a library as a whole, on CPUs easily all convolutions of a
    network, is no single operation there: it counts as many as it has convolutions, matrix products and reductions.
    Both go into functions as often as they are called, into bodies of loops once.

    Args:
      lowered: jax.stages.Lowered. Where its function was called with such arguments before, nothing is compiled.
    """
    return _before(lowered.compiler_ir('stablehlo')), _after(lowered.compile().as_text())


def _before(module: Any) -> int:
    functions = {operation.attributes['sym_name'].value: operation for operation in module.body.operations}

    def count_in(operation: Any) -> int:
        return sum(one(inner) for region in operation.regions for block in region for inner in block.operations)

    def one(operation: Any) -> int:
        name = operation.operation.name
        if name == 'func.call':
            return count_in(functions[operation.attributes['callee'].value])
        if name in _BRANCHES:
            return count_in(operation)
        return int(name not in _FREE_BEFORE and not all(map(_is_index, operation.results)) and not _renames(operation))
    return count_in(functions['main'])


def _renames(operation: Any) -> bool:
    """Whether it converts a type to itself, which is how an exported function gets batches of a known size."""
    return operation.operation.name == 'stablehlo.convert' and (
        operation.operands[0].type.element_type == operation.results[0].type.element_type)


def _is_index(value: Any) -> bool:
    """Whether a value is one number, or a list of whole ones or of truths: tensor<f32>, tensor<3xi32>."""
    return re.fullmatch(r'tensor<(?:[a-z]\w*|[\d?]+xu?i\d+)>', str(value.type)) is not None


def _after(text: str) -> int:
    computations: dict[str, list[str]] = {}
    entry = ''
    lines: list[str] = []
    for line in text.splitlines():
        if line.endswith('{') and not line.startswith((' ', 'HloModule')):
            name = line.removeprefix('ENTRY ').split()[0].lstrip('%')
            entry = name if line.startswith('ENTRY ') else entry
            lines = computations[name] = []
        elif ' = ' in line:
            lines.append(line.partition(' = ')[2])
    return _count_computation(entry, computations.__getitem__)


def _count_computation(name: str, lines_of: Callable[[str], list[str]]) -> int:
    total = 0
    for line in lines_of(name):
        opcode = _opcode(line)
        if opcode in _FREE_AFTER:
            continue
        if 'kind=kCustom' in line:
            inside = re.search(r'calls=%?([\w.-]+)', line)
            total += max(1, sum(_opcode(one) in _KERNELS for one in lines_of(inside[1]))) if inside else 1
            continue
        if opcode not in ('call', 'while', 'conditional'):
            total += 1
            continue
        called = _CALLED.findall(line)
        for names in _CALLED_LIST.findall(line):
            called += [one.strip().lstrip('%') for one in names.split(',')]
        total += sum(_count_computation(one, lines_of) for one in called)
    return total


def _opcode(line: str) -> str:
    """Returns 'fusion' of 'f32[2]{0} fusion(%x), kind=kLoop, calls=%f'."""
    found = re.search(r'(?:^|\s)([a-z][a-z0-9-]*)\(', line)
    return found[1] if found else 'constant'
