"""What a compiled train step is made of: operations, arithmetic, memory; the model's layers; and its graph."""

import re
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np

from .step import TrainState

# What XLA lists among the operations and no device computes.
_FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'replica-id'}
_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_OPERATION = re.compile(r'^\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([a-z][a-z0-9\-]*)\(')
_FUSED, _APPLIED = re.compile(r'\bcalls=%?([\w.\-]+)'), re.compile(r'\bto_apply=%?([\w.\-]+)')
_TARGET = re.compile(r'custom_call_target="([^"]+)"')
_INLINED = {'jit', 'pjit', 'closed_call', 'core_call', 'custom_jvp_call', 'custom_vjp_call', 'checkpoint', 'remat'}
_TABLE_WIDTH = 150


class Node(NamedTuple):
    """An operation of a graph, or an array that goes into it.

    Attributes:
      name: its path: 'LeNet/conv1/add'; what begins alike is in one box.
      operation: 'add', 'parameter', ...
      inputs: names of the nodes whose results it takes.
      shape: of its first result.
    """
    name: str
    operation: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]


class Program(NamedTuple):
    """The summary of a program.

    Attributes:
      facts: what JSON can hold: 'operations', kind -> [launched, within fusions]; 'flops', 'bytes_accessed',
        'transcendentals' of one step on one device, as XLA counts them; 'memory_bytes' on each device.
      layers: a table of the model's layers.
      graph: of the model's forward pass.
      text: all but the graph, for people.
    """
    facts: dict[str, Any]
    layers: str
    graph: list[Node]
    text: str


def summarize(training: Any, state: TrainState) -> Program:
    """Returns the summary of a run's train step, which is compiled for it, or read from the cache of compiled steps.

    Args:
      training: the parts of the run, see `components.Training`.
      state: placed on the devices.
    """
    batch = training.feed(training.batches(0))
    compiled = training.train_step.lower(state, batch).compile()
    cost, memory = compiled.cost_analysis() or {}, compiled.memory_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    sizes = {name: getattr(memory, f'{field}_size_in_bytes', None) for name, field in (
        ('arguments', 'argument'), ('results', 'output'), ('of them in place of arguments', 'alias'),
        ('temporary', 'temp'), ('code', 'generated_code'))}
    config, parallel = training.config, training.parallel
    facts = {'experiment': config.experiment, 'devices': str(parallel), 'batch_size': config.batch_size,
             'rows_per_device': config.batch_size // parallel.count,
             **{name.replace(' ', '_'): float(cost[name]) for name in ('flops', 'bytes accessed', 'transcendentals')
                if name in cost},
             'memory_bytes': {name: int(size) for name, size in sizes.items() if size is not None},
             'operations': operations(compiled.as_text() or '')}
    key, inputs = jax.random.key(0), training.example()
    layers = training.model.tabulate({'params': key, 'dropout': key}, *inputs, train=False, console_kwargs={
        'width': _TABLE_WIDTH, 'force_terminal': False, 'no_color': True})
    layers = '\n'.join(line.rstrip() for line in layers.splitlines()).strip('\n')
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    return Program(facts, layers, model_graph(training.model, variables, inputs), _text(facts, layers))


def operations(program: str) -> dict[str, list[int]]:
    """Returns kind -> [how many a step launches, how many are within fusions], the most frequent first.

    Args:
      program: optimised HLO as text. What a loop repeats counts once; what reductions add with, and what costs nothing,
        such as constants, is left out.
    """
    of_computation: dict[str, Counter] = {}
    fused, applied, current = set(), set(), Counter()
    for line in program.splitlines():
        if head := _HEAD.match(line):
            current = of_computation.setdefault(head.group(1), Counter())
        elif found := _OPERATION.match(line):
            kind = found.group(1)
            if target := _TARGET.search(line):
                kind = f'{kind} {target.group(1)}'
            if kind not in _FREE:
                current[kind] += 1
            if kind != 'call':
                applied.update(_APPLIED.findall(line))
            fused.update(_FUSED.findall(line))
    launched, within = Counter(), Counter()
    for name, counts in of_computation.items():
        if name not in applied:
            (within if name in fused else launched).update(counts)
    kinds = sorted({*launched, *within}, key=lambda kind: (-launched[kind], -within[kind], kind))
    return {kind: [launched[kind], within[kind]] for kind in kinds}


def model_graph(model: Any, variables: Any, inputs: tuple) -> list[Node]:
    """Returns the operations of a model's forward pass, in the order in which they are traced.

    Args:
      model: the network.
      variables: its 'params' and 'batch_stats'.
      inputs: of one example. Loops are one node each.
    """
    def forward(variables, inputs):
        return model.apply(variables, *inputs, train=False)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), (variables, inputs))
    closed = jax.make_jaxpr(forward)(*shapes)
    nodes: list[Node] = []
    taken: Counter = Counter()
    root = type(model).__name__

    def add(name: str, operation: str, sources: tuple[str, ...], shape: Any) -> str:
        name = re.sub(r'[^A-Za-z0-9_./-]', '_', name)
        taken[name] += 1
        if taken[name] > 1:
            name += f'_{taken[name] - 1}'
        nodes.append(Node(name, operation, tuple(dict.fromkeys(source for source in sources if source)), tuple(shape)))
        return name

    def walk(jaxpr: Any, names: dict[Any, str], scope: str) -> list[str]:
        def name_of(variable: Any) -> str:
            return '' if hasattr(variable, 'val') else names.get(variable, '')  # '': a number written in the program
        for equation in jaxpr.eqns:
            sources = tuple(map(name_of, equation.invars))
            primitive = equation.primitive.name
            path = '/'.join(filter(None, (scope, str(equation.source_info.name_stack))))
            inner = next((equation.params[key] for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
                          if key in equation.params), None)
            if primitive in _INLINED and inner is not None:
                inner = getattr(inner, 'jaxpr', inner)
                called = str(equation.params.get('name', ''))
                results = walk(inner, dict(zip(inner.invars, sources)), '/'.join(filter(None, (path, called))))
                names.update(zip(equation.outvars, results))
                continue
            shape = equation.outvars[0].aval.shape if equation.outvars else ()
            node = add('/'.join(filter(None, (path, primitive))), primitive, sources, shape)
            names.update(dict.fromkeys(equation.outvars, node))
        return list(map(name_of, jaxpr.outvars))

    names = {}
    for (path, leaf), variable in zip(jax.tree_util.tree_leaves_with_path(shapes), closed.jaxpr.invars, strict=True):
        if path[0].idx == 0:
            parameter = jax.tree_util.keystr(path[2:], simple=True, separator='/')
            names[variable] = add(f'{root}/{parameter}', 'parameter', (), leaf.shape)
        else:
            names[variable] = add('input', 'input', (), leaf.shape)
    names |= {variable: add('constant', 'constant', (), variable.aval.shape) for variable in closed.jaxpr.constvars}
    for number, result in enumerate(dict.fromkeys(walk(closed.jaxpr, names, ''))):
        add(f'output_{number}' if number else 'output', 'output', (result,), ())
    return nodes


def _text(facts: dict[str, Any], layers: str) -> str:
    lines = [f"{facts['experiment']}: the compiled train step on {facts['devices']}, batches of "
             f"{facts['batch_size']:,}", '',
             f"one step of one device, {facts['rows_per_device']:,} examples, as XLA counts it:"]
    for name, title, unit in (('flops', 'arithmetic', 'MFLOP'), ('bytes_accessed', 'read and written', 'MB'),
                              ('transcendentals', 'exp, log and the like', 'million')):
        if name in facts:
            lines.append(f'  {title:<34}{facts[name] / 1e6:>14,.3f} {unit}')
    lines += ['', 'memory of a device:']
    lines += [f'  {name:<34}{size / 1e6:>14,.3f} MB' for name, size in facts['memory_bytes'].items()]
    lines += ['', f"{'operations':<36}{'launched':>10}{'in fusions':>12}"]
    lines += [f'  {kind:<34}{launched:>10,}{within:>12,}' for kind, (launched, within) in facts['operations'].items()]
    return '\n'.join([*lines, '', 'layers, for one example:', layers, ''])
