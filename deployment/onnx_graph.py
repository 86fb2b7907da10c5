"""A traced JAX function as a graph of ONNX operations, for what the models of this project compute when they predict.

Why not a library: of five of our networks jax2onnx 0.17 made files that were wrong or did not run (padding of max
pooling dropped, pooling over six axes, padding of batches of any size, empty concatenations), and it asks for an older
orbax-checkpoint. What runs compute when they predict has some sixty primitives. They are below, and anything else is
refused by name.

Images are [batch, height, width, channels] in JAX and [batch, channels, height, width] in ONNX. A value that a
convolution or pooling made stays in ONNX's order until an operation needs the other one.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

OPSET, IR_VERSION = 18, 8  # ONNX 1.13, of December 2022

_NCHW = (0, 3, 1, 2)  # axes of [batch, height, width, channels] in ONNX's order
_NHWC = (0, 2, 3, 1)
_IMAGES = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))  # dimension numbers of convolutions of such images, HWIO

_CHANNELS = {'Conv': -3, 'ConvTranspose': -3, 'Gemm': -1}  # layers -> axis of the channels of what they give
_ELEMENTWISE = {
    'add': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'div': 'Div', 'max': 'Max', 'min': 'Min', 'pow': 'Pow', 'exp': 'Exp',
    'log': 'Log', 'neg': 'Neg', 'abs': 'Abs', 'sqrt': 'Sqrt', 'sign': 'Sign', 'floor': 'Floor', 'ceil': 'Ceil',
    'tanh': 'Tanh', 'logistic': 'Sigmoid', 'erf': 'Erf', 'not': 'Not', 'sin': 'Sin', 'cos': 'Cos', 'eq': 'Equal',
    'lt': 'Less', 'le': 'LessOrEqual', 'gt': 'Greater', 'ge': 'GreaterOrEqual', 'and': 'And', 'or': 'Or', 'xor': 'Xor',
    'add_any': 'Add'}
_REDUCTIONS = {'reduce_sum': 'ReduceSum', 'reduce_max': 'ReduceMax', 'reduce_min': 'ReduceMin',
               'reduce_prod': 'ReduceProd'}
_SAME = ('stop_gradient', 'copy', 'copy_p', 'optimization_barrier', 'reduce_precision', 'sharding_constraint')


class Unsupported(Exception):
    """What a function computes that ONNX files of this project do not know."""


@dataclasses.dataclass(frozen=True)
class _Value:
    """A value of the graph, or a constant.

    Attributes:
      shape: in JAX's order; a side is 1 instead of what it is repeated to, or the name of a number, such as 'batch'.
      dtype: numpy's.
      name: in the graph; '' for a constant.
      array: of a constant.
      nchw: whether the graph has it in ONNX's order of axes.
    """
    shape: tuple
    dtype: np.dtype
    name: str = ''
    array: np.ndarray | None = None
    nchw: bool = False


def convert(function: Callable, inputs: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
    """Returns an ONNX model of a function of a dict of arrays that returns a dict of arrays.

    Args:
      function: what it closes over becomes constants of the graph.
      inputs: name -> shape, with symbols of jax.export for numbers that may vary, and type.

    Raises:
      Unsupported: the function computes something else than images models do.
    """
    names: list[str] = []

    def flat(*arrays):
        outputs = function(dict(zip(inputs, arrays)))
        names[:] = outputs
        return [outputs[name] for name in names]

    closed = jax.make_jaxpr(flat)(*inputs.values())
    graph = _Graph({name: _sides(of.shape) for name, of in inputs.items()})
    values = [_Value(_sides(of.shape), np.dtype(of.dtype), name) for name, of in inputs.items()]
    outputs = graph.run(closed.jaxpr, [_constant(value) for value in closed.consts], values)
    return graph.model(dict(zip(inputs, values)), dict(zip(names, outputs)), closed.out_avals)


def _sides(shape: Sequence) -> tuple:
    return tuple(side if isinstance(side, (int, np.integer)) else str(side) for side in shape)


def _constant(value: Any) -> _Value:
    array = np.asarray(value)
    return _Value(array.shape, array.dtype, array=array)


def _is_empty(variable: Any) -> bool:
    return 0 in _sides(getattr(variable.aval, 'shape', ()))


def _needed(jaxpr: Any) -> list:
    """The equations that the outputs come from, in order; what has no elements comes from nothing."""
    needed = {variable for variable in jaxpr.outvars if not isinstance(variable, core.Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(variable for variable in equation.invars
                          if not isinstance(variable, core.Literal) and not _is_empty(variable))
            equations.append(equation)
    return equations[::-1]


class _Graph:
    """Collects nodes; one method for every kind of primitive."""

    def __init__(self, inputs: Mapping[str, tuple]):
        import onnx
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: dict[tuple, Any] = {}  # content -> initializer
        self._turned: dict[tuple[str, bool], _Value] = {}
        self._numbers = itertools.count()
        self._where = {side: (name, axis) for name, shape in inputs.items() for axis, side in enumerate(shape)
                       if isinstance(side, str)}  # where to look a varying number up

    def model(self, inputs: Mapping[str, _Value], outputs: Mapping[str, _Value], avals: Sequence) -> Any:
        """Returns the model of what the outputs need."""
        helper = self._onnx.helper
        for (name, value), aval in zip(outputs.items(), avals):
            value = self._plain(self._whole(value, aval.shape))
            self._nodes.append(helper.make_node('Identity', [self._name(value)], [name], name=name))
        needed, nodes = set(outputs), []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)

        nodes = self._with_biases(nodes[::-1])
        needed = {name for node in nodes for name in node.input}

        def info(name, shape, dtype):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), _sides(shape))
        graph = helper.make_graph(
            nodes, 'model', [info(name, value.shape, value.dtype) for name, value in inputs.items()],
            [info(name, aval.shape, aval.dtype) for name, aval in zip(outputs, avals)],
            [constant for constant in self._constants.values() if constant.name in needed])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=IR_VERSION,
                                 producer_name='practicum')

    def _with_biases(self, nodes: Sequence[Any]) -> list[Any]:
        """Returns nodes where a constant for each channel, added to what a layer alone gives, is the layer's bias."""
        constants = {constant.name: constant for constant in self._constants.values()}
        uses = collections.Counter(name for node in nodes for name in node.input)
        layers, kept = {}, []
        for node in nodes:
            if node.op_type in _CHANNELS:
                layers[node.output[0]] = node
            elif node.op_type == 'Add':
                value, bias = node.input if node.input[1] in constants else reversed(node.input)
                layer = layers.get(value)
                if layer is not None and bias in constants and uses[value] == 1:
                    axis = _CHANNELS[layer.op_type]
                    channels = constants[layer.input[1]].dims[0 if layer.op_type == 'Conv' else 1]
                    dims = list(constants[bias].dims)
                    if len(dims) >= -axis and dims[axis] == channels == math.prod(dims):
                        array = self._onnx.numpy_helper.to_array(constants[bias]).reshape(-1)
                        layer.input.append(self._initializer(array))
                        del layers[value]
                        layer.output[0] = node.output[0]
                        continue
            kept.append(node)
        return kept

    def run(self, jaxpr: Any, constants: Sequence[_Value], arguments: Sequence[_Value]) -> list[_Value]:
        """Adds the nodes of a jaxpr and returns its outputs."""
        known = dict(zip(jaxpr.constvars, constants)) | dict(zip(jaxpr.invars, arguments))

        def read(variable):
            if isinstance(variable, core.Literal):
                return _constant(variable.val)
            if _is_empty(variable):
                return _Value(_sides(variable.aval.shape), np.dtype(variable.aval.dtype))
            return known[variable]
        for equation in _needed(jaxpr):
            known.update(zip(equation.outvars, self._add(equation, [read(variable) for variable in equation.invars])))
        return [read(variable) for variable in jaxpr.outvars]

    def _add(self, equation: Any, inputs: list[_Value]) -> Sequence[_Value]:
        name, parameters = equation.primitive.name, equation.params
        inner = parameters.get('call_jaxpr', parameters.get('jaxpr'))
        if inner is not None:
            return self.run(getattr(inner, 'jaxpr', inner), [_constant(one) for one in getattr(inner, 'consts', ())],
                            inputs)
        shapes = [_sides(of.aval.shape) for of in (*equation.invars, *equation.outvars)]
        if name in _SAME:
            return inputs
        if name == 'dim_as_value':
            side = _Value((1,), np.dtype(np.int64), self._shape(_sides((parameters['dim'],))))
            return [self._convert_element_type(self._reshaped(side, ()), out=equation.outvars[0].aval)]
        if all(value.array is not None for value in inputs) and not any(
                isinstance(side, str) for shape in shapes for side in shape):
            arrays = [np.broadcast_to(value.array, shape) for value, shape in zip(inputs, shapes)]
            found = equation.primitive.bind(*arrays, **parameters)
            return [_constant(one) for one in (found if equation.primitive.multiple_results else [found])]
        out = equation.outvars[0].aval
        if name in _ELEMENTWISE:
            return [self._elementwise(_ELEMENTWISE[name], inputs, out.dtype)]
        if name in _REDUCTIONS:
            return [self._reduce(_REDUCTIONS[name], self._whole(inputs[0], shapes[0]), parameters['axes'])]
        method = getattr(self, f'_{name}', None)
        if method is None:
            raise Unsupported(name)
        # These alone take values that are repeated along some axes.
        if name not in ('broadcast_in_dim', 'select_n', 'convert_element_type', 'square', 'rsqrt', 'integer_pow', 'ne',
                        'log1p', 'clamp'):
            inputs = [self._whole(value, shape) for value, shape in zip(inputs, shapes)]
        return [method(*inputs, out=out, **parameters)]

    # Nodes and constants.

    def _node(self, op: str, inputs: Sequence[_Value | str], shape: Sequence, dtype: Any, *, nchw: bool = False,
              **attributes: Any) -> _Value:
        name = f'{op}_{next(self._numbers)}'
        self._nodes.append(self._onnx.helper.make_node(
            op, [one if isinstance(one, str) else self._name(one) for one in inputs], [name], name=name, **attributes))
        return _Value(tuple(shape), np.dtype(dtype), name, nchw=nchw)

    def _name(self, value: _Value) -> str:
        return value.name or self._initializer(value.array)

    def _initializer(self, array: Any) -> str:
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = array.tobytes(), array.shape, array.dtype.str
        if key not in self._constants:
            self._constants[key] = self._onnx.numpy_helper.from_array(array, f'constant_{len(self._constants)}')
        return self._constants[key].name

    def _integers(self, *numbers: int) -> str:
        return self._initializer(np.asarray(numbers, np.int64))

    def _in_order(self, value: _Value, nchw: bool) -> _Value:
        """Returns a value in ONNX's order of axes, or in JAX's."""
        if value.nchw == nchw or len(value.shape) != 4:
            return value
        if value.array is not None:
            return value if not nchw else dataclasses.replace(value, array=value.array.transpose(_NCHW), nchw=True)
        key = value.name, nchw
        if key not in self._turned:
            self._turned[key] = self._node('Transpose', [value], value.shape, value.dtype, nchw=nchw,
                                           perm=_NCHW if nchw else _NHWC)
        return self._turned[key]

    def _plain(self, value: _Value) -> _Value:
        return self._in_order(value, False)

    def _axis(self, value: _Value, axis: int) -> int:
        return _NCHW.index(axis) if value.nchw else int(axis)

    def _whole(self, value: _Value, shape: Sequence) -> _Value:
        """Returns a value repeated to a shape, in JAX's order of axes where that has to be done."""
        shape = _sides(shape)
        if value.shape == shape:
            return value
        value = self._plain(value)
        if value.array is not None and not any(isinstance(side, str) for side in shape):
            return _constant(np.broadcast_to(value.array, shape))
        return self._node('Expand', [value, self._shape(shape)], shape, value.dtype)

    def _shape(self, shape: tuple) -> str:
        """The name of a vector of the sides of a shape, some of which are known when the graph runs."""
        parts = []
        for side in shape:
            if not isinstance(side, str):
                parts.append(self._integers(side))
            elif side in self._where:
                name, axis = self._where[side]
                parts.append(self._node('Shape', [name], (1,), np.int64, start=axis, end=axis + 1).name)
            else:
                raise Unsupported(f'a side of {side}')
        return self._node('Concat', parts, (len(shape),), np.int64, axis=0).name

    def _reshaped(self, value: _Value, shape: Sequence) -> _Value:
        shape = _sides(shape)
        if value.array is not None and not any(isinstance(side, str) for side in shape):
            return _constant(value.array.reshape(shape))
        value = self._plain(value)
        if value.shape == shape:
            return value
        named = [isinstance(side, str) for side in shape]
        if sum(named) > 1:
            raise Unsupported(f'a reshape to {list(shape)}')
        sides = self._integers(*(-1 if isinstance(side, str) else side for side in shape))
        return self._node('Reshape', [value, sides], shape, value.dtype)

    # Elementwise operations: axes along which a value is repeated are left to ONNX's broadcasting.

    def _elementwise(self, op: str, inputs: Sequence[_Value], dtype: Any, **attributes: Any) -> _Value:
        rank = max(len(value.shape) for value in inputs)
        nchw = any(value.nchw for value in inputs)
        inputs = [self._in_order(value, nchw) for value in inputs]
        if op == 'Max' and any(value.array is not None and not value.array.any() for value in inputs):
            inputs = [value for value in inputs if value.array is None or value.array.any()] or inputs[:1]
            op = 'Relu'
            if inputs[0].dtype.kind != 'f':
                raise Unsupported('max of integers')
        padded = [(1,) * (rank - len(value.shape)) + value.shape for value in inputs]
        shape = tuple(next((side for side in sides if side != 1), 1) for sides in zip(*padded))
        return self._node(op, inputs, shape, dtype, nchw=nchw, **attributes)

    def _ne(self, a, b, *, out):
        return self._elementwise('Not', [self._elementwise('Equal', [a, b], bool)], bool)

    def _square(self, x, *, out):
        return self._elementwise('Mul', [x, x], out.dtype)

    def _rsqrt(self, x, *, out, **_):
        return self._elementwise('Reciprocal', [self._elementwise('Sqrt', [x], out.dtype)], out.dtype)

    def _log1p(self, x, *, out, **_):
        one = _constant(np.ones((), x.dtype))
        return self._elementwise('Log', [self._elementwise('Add', [x, one], out.dtype)], out.dtype)

    def _expm1(self, x, *, out, **_):
        one = _constant(np.ones((), x.dtype))
        return self._elementwise('Sub', [self._elementwise('Exp', [x], out.dtype), one], out.dtype)

    def _integer_pow(self, x, *, out, y):
        return self._elementwise('Pow', [x, _constant(np.asarray(y, x.dtype))], out.dtype)

    def _clamp(self, low, x, high, *, out):
        return self._elementwise('Min', [self._elementwise('Max', [x, low], out.dtype), high], out.dtype)

    def _rem(self, a, b, *, out):
        return self._elementwise('Mod', [a, b], out.dtype, fmod=1)

    def _select_n(self, which, *cases, out):
        if len(cases) != 2 or which.dtype != bool:
            raise Unsupported('select_n of several cases')
        return self._elementwise('Where', [which, cases[1], cases[0]], out.dtype)

    def _convert_element_type(self, x, *, out, **_):
        if x.dtype == out.dtype:
            return x
        if x.array is not None:
            return dataclasses.replace(x, array=x.array.astype(out.dtype), dtype=np.dtype(out.dtype))
        return self._elementwise('Cast', [x], out.dtype,
                                 to=self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(out.dtype)))

    # Shapes.

    def _broadcast_in_dim(self, x, *_, out, broadcast_dimensions, **__):
        shape = [1] * len(out.shape)
        for axis, side in zip(broadcast_dimensions, x.shape):
            shape[axis] = side
        if x.array is not None:
            return _constant(x.array.reshape(shape))
        return x if tuple(shape) == x.shape else self._reshaped(x, shape)

    def _reshape(self, x, *_, out, dimensions=None, **__):
        if dimensions is not None:
            raise Unsupported('reshape of other dimensions')
        return self._reshaped(x, out.shape)

    def _squeeze(self, x, *, out, **_):
        return self._reshaped(x, out.shape)

    _expand_dims = _squeeze

    def _transpose(self, x, *, out, permutation):
        return self._node('Transpose', [self._plain(x)], _sides(out.shape), out.dtype, perm=permutation)

    def _concatenate(self, *parts, out, dimension):
        parts = [part for part in parts if part.shape[dimension] != 0]
        nchw = any(part.nchw for part in parts)
        parts = [self._in_order(part, nchw) for part in parts]
        if len(parts) == 1:
            return parts[0]
        return self._node('Concat', parts, _sides(out.shape), out.dtype, nchw=nchw,
                          axis=self._axis(parts[0], dimension))

    def _slice(self, x, *, out, start_indices, limit_indices, strides):
        strides = strides or [1] * len(start_indices)
        axes = [axis for axis, (begin, end, step) in enumerate(zip(start_indices, limit_indices, strides))
                if not (step == 1 and _sides((end,)) == x.shape[axis:axis + 1] and _sides((begin,)) == (0,))]
        if any(isinstance(side, str) for axis in axes for side in _sides((start_indices[axis], limit_indices[axis]))):
            raise Unsupported('a part of a batch')
        if not axes:
            return x
        bounds = [self._integers(*(of[axis] for axis in axes)) for of in (start_indices, limit_indices)]
        return self._node('Slice', [x, *bounds, self._integers(*(self._axis(x, axis) for axis in axes)),
                                    self._integers(*(strides[axis] for axis in axes))], _sides(out.shape), out.dtype,
                          nchw=x.nchw)

    def _pad(self, x, value, *, out, padding_config):
        if value.array is None or any(inner or before < 0 or after < 0 for before, after, inner in padding_config):
            raise Unsupported('padding of less than nothing, or between pixels')
        order = _NCHW if x.nchw else range(len(padding_config))
        pads = [padding_config[axis][side] for side in (0, 1) for axis in order]
        return self._node('Pad', [x, self._integers(*pads), value], _sides(out.shape), out.dtype, nchw=x.nchw)

    def _gather(self, x, where, *, out, dimension_numbers, slice_sizes, **_):
        """Parts of fixed places: a slice, or a choice of rows and of columns, as x[:, ::2, ::2] is traced."""
        axes, collapsed = dimension_numbers.start_index_map, dimension_numbers.collapsed_slice_dims
        if where.array is None or dimension_numbers.operand_batching_dims:
            raise Unsupported('gather of places that are computed')
        if not collapsed and where.array.ndim == 1:
            start = [0] * len(x.shape)
            for axis, begin in zip(axes, where.array):
                start[axis] = int(begin)
            limit = [begin + size if begin else size for begin, size in zip(start, slice_sizes)]
            return self._slice(x, out=out, start_indices=start, limit_indices=limit, strides=None)
        places = where.array.reshape(*where.array.shape[:-1], len(axes))
        kept = [axis for axis in range(len(x.shape)) if axis not in axes]
        if tuple(collapsed) != tuple(axes) or places.ndim - 1 != len(axes) or list(
                dimension_numbers.offset_dims) != kept:
            raise Unsupported('gather')
        for number, axis in enumerate(axes):
            line = np.moveaxis(places[..., number], number, 0).reshape(places.shape[number], -1)
            if (line != line[:, :1]).any():
                raise Unsupported('gather of places that are no grid')
            shape = (*x.shape[:axis], len(line), *x.shape[axis + 1:])
            x = self._node('Gather', [x, self._integers(*map(int, line[:, 0]))], shape, x.dtype, nchw=x.nchw,
                           axis=self._axis(x, axis))
        return x

    # Sums and products.

    def _reduce(self, op: str, x: _Value, axes: Sequence[int]) -> _Value:
        left = [axis for axis in range(len(x.shape)) if axis not in axes]
        if x.nchw and sorted(left, key=_NCHW.index) != left:
            x = self._plain(x)
        return self._node(op, [x, self._integers(*(self._axis(x, axis) for axis in axes))],
                          [x.shape[axis] for axis in left], x.dtype, keepdims=0)

    def _argmax(self, x, *, out, axes, index_dtype):
        found = self._node('ArgMax', [self._plain(x)], _sides(out.shape), np.int64, axis=axes[0], keepdims=0)
        return self._convert_element_type(found, out=out)

    def _dot_general(self, a, b, *, out, dimension_numbers, **_):
        (contracted, with_), (batched, and_) = dimension_numbers
        a, b = self._plain(a), self._plain(b)
        ranks = len(a.shape), len(b.shape)
        if not batched and list(contracted) == [ranks[0] - 1] and list(with_) == [0] and ranks[1] == 2:
            if ranks[0] == 2 and b.array is not None:
                return self._node('Gemm', [a, b], _sides(out.shape), out.dtype)
            return self._node('MatMul', [a, b], _sides(out.shape), out.dtype)
        letters = iter('abcdefghijklmnopqrstuvwxyz')
        left = [next(letters) for _ in a.shape]
        right = [next(letters) for _ in b.shape]
        for one, other in (*zip(contracted, with_), *zip(batched, and_)):
            right[other] = left[one]
        result = [left[axis] for axis in batched]
        result += [left[axis] for axis in range(ranks[0]) if axis not in (*contracted, *batched)]
        result += [right[axis] for axis in range(ranks[1]) if axis not in (*with_, *and_)]
        return self._node('Einsum', [a, b], _sides(out.shape), out.dtype,
                          equation=f'{"".join(left)},{"".join(right)}->{"".join(result)}')

    # Images.

    def _conv_general_dilated(self, x, kernel, *, out, window_strides, padding, lhs_dilation, rhs_dilation,
                              dimension_numbers, feature_group_count, batch_group_count, **_):
        numbers = dimension_numbers.lhs_spec, dimension_numbers.rhs_spec, dimension_numbers.out_spec
        if numbers != _IMAGES or kernel.array is None or batch_group_count != 1:
            raise Unsupported('a convolution of something else than images, or with kernels that are computed')
        x, weights = self._in_order(x, True), kernel.array.transpose(3, 2, 0, 1)
        fields = {'dilations': rhs_dilation, 'group': feature_group_count}
        if {*lhs_dilation} == {1}:
            op, begins, ends = 'Conv', *zip(*padding)
            fields |= {'strides': window_strides}
        else:
            if {*window_strides, *rhs_dilation, feature_group_count} != {1}:
                raise Unsupported('a convolution with strides both of inputs and of outputs')
            op, weights = 'ConvTranspose', weights[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
            begins = [size - 1 - before for size, (before, _) in zip(kernel.shape, padding)]
            ends = [size - 1 - after for size, (_, after) in zip(kernel.shape, padding)]
            fields |= {'strides': lhs_dilation, 'output_padding': [max(0, -end) for end in ends]}
            ends = [max(0, end) for end in ends]
        if min(*begins, *ends) < 0:
            raise Unsupported('a convolution that crops')
        return self._node(op, [x, _constant(weights)], _sides(out.shape), out.dtype, nchw=True,
                          kernel_shape=kernel.shape[:2], pads=[*begins, *ends], **fields)

    def _pool(self, op: str, x: _Value, out: Any, window_dimensions: Sequence[int], window_strides: Sequence[int],
              padding: Sequence[tuple[int, int]], base_dilation: Sequence[int], window_dilation: Sequence[int],
              **attributes: Any) -> _Value:
        at = window_dimensions, window_strides
        if len(x.shape) != 4 or any(of[axis] != 1 for of in at for axis in (0, 3)) or any(
                padding[0] + padding[3]) or {*base_dilation, *window_dilation} != {1}:
            raise Unsupported('pooling of something else than pixels')
        begins, ends = zip(*padding[1:3])
        return self._node(op, [self._in_order(x, True)], _sides(out.shape), out.dtype, nchw=True,
                          kernel_shape=window_dimensions[1:3], strides=window_strides[1:3], pads=[*begins, *ends],
                          **attributes)

    def _reduce_window_max(self, x, *, out, **fields):
        return self._pool('MaxPool', x, out, **fields)

    def _reduce_window_sum(self, x, *, out, **fields):
        mean = self._pool('AveragePool', x, out, **fields, count_include_pad=1)
        area = np.prod(fields['window_dimensions'])
        return self._elementwise('Mul', [mean, _constant(np.asarray(area, x.dtype))], out.dtype)
