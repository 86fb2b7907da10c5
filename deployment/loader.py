"""Runs an exported model with jax, flatbuffers, numpy and safetensors alone; this file is in every export, too.

    model, meta = load('model.zip')
    logits = model(image=images)['logits']      # images: uint8 [n, height, width, channels], see meta['inputs']

Nothing in an export is unpickled: functions are StableHLO (jax.export), arrays are safetensors, the rest is JSON.
"""

import hashlib
import json
import zipfile

import jax
import numpy as np
from jax import export
from safetensors.numpy import load as read_arrays


def load(path, verify=True):
    """Returns (model, meta): model(**inputs) maps arrays to a dict of arrays, all [n, ...]; meta says of which.

    Raises ValueError if the file is damaged, or says other things here than where it was made.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            meta = json.loads(archive.read('meta.json'))
            files = {name: archive.read(name) for name in meta['sha256']}
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f'{path} is damaged, or no exported model: {error}') from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != meta['sha256'][name]:
            raise ValueError(f'{path}: {name} in it is damaged')
    devices = {'gpu': ('cuda', 'rocm')}.get(jax.default_backend(), (jax.default_backend(),))
    platform = next((platform for platform in devices if platform in meta['functions']), None)
    if platform is None:
        raise ValueError(f'{path} is for {", ".join(meta["functions"])}, this is {devices[0]}')
    functions = {batch: jax.jit(export.deserialize(bytearray(files[name])).call)
                 for batch, name in meta['functions'][platform].items()}
    weights = jax.device_put(read_arrays(files['weights.safetensors']))

    first = next(name for name, of in meta['inputs'].items() if of['shape'][:1] == [None])

    def function_of(inputs):
        rows = str(len(inputs[first]))
        function = functions.get('any') or functions.get(rows)
        if function is None:
            raise ValueError(f'a batch of {rows}: {path} takes {", ".join(functions)}')
        return function

    def model(**inputs):
        return {name: np.asarray(values) for name, values in function_of(inputs)(weights, inputs).items()}
    model.lower = lambda **inputs: function_of(inputs).lower(weights, inputs)  # the program, to be looked at

    if verify:
        examples, on_cpu = read_arrays(files['examples.safetensors']), platform == 'cpu'
        for name, values in model(**{name: examples[f'inputs/{name}'] for name in meta['inputs']}).items():
            there = examples[f'outputs/{name}']
            # Other processors round in another way, GPUs multiply with fewer bits: what is counted may then differ.
            difference = abs(values - there) / max(1e-6, abs(there).max(initial=0))
            exact = on_cpu and values.dtype.kind == 'f'
            if (difference <= (1e-3 if on_cpu else 3e-2)).mean() < (1 if exact else 0.9):  # NaN is not below, either
                raise ValueError(f'{path} says other things here than where made: {name}, {difference.max():.1g}')
    return model, meta
