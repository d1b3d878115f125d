"""ONNX graphs in mixed precision. The graph holds the precision, as TensorRT's strong typing wants.

Matrix products are in 16 bits, as under autocast; sums, norms, softmax and positions stay in 32.
Products with few channels also stay in 32 bits: the rows to denoise pass through them.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

_PRODUCTS = ("MatMul", "Gemm")
_NARROW = 16  # channels: a row of an action, or the like


def to_fp16(model: ModelProto) -> ModelProto:
    """A copy whose matrix products are in 16 bits; inputs and outputs stay in 32."""
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {weight.name: weight for weight in graph.initializer}
    narrow = {name for name, weight in weights.items() if min(weight.dims, default=0) < _NARROW}
    nodes, halves = [], {}  # halves: name of a tensor -> name of its copy in 16 bits
    for node in graph.node:
        product = node.op_type in _PRODUCTS and not narrow.intersection(node.input[:2])
        for i, name in enumerate(node.input if product else ()):
            if name not in halves:
                halves[name] = f"{name}/half"
                if name in weights:
                    half = numpy_helper.to_array(weights[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(half, halves[name]))
                else:
                    nodes.append(
                        helper.make_node("Cast", [name], [halves[name]], to=TensorProto.FLOAT16)
                    )
            node.input[i] = halves[name]
        nodes.append(node)
        if product:
            (out,) = node.output
            node.output[0] = f"{out}/wide"
            nodes.append(helper.make_node("Cast", [node.output[0]], [out], to=TensorProto.FLOAT))
    used = {name for node in nodes for name in node.input}
    kept = [
        TensorProto.FromString(w.SerializeToString()) for w in graph.initializer if w.name in used
    ]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.initializer.extend(kept)
    return result
