"""ONNX graphs in mixed precision, as TensorRT's strong typing wants them: the precision is in the
graph.

Products of matrices are taken in 16 bits, as autocast does; sums, norms, softmax and places stay in
32. So do products with few channels: what is to be denoised passes through them.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

_PRODUCTS = ("MatMul", "Gemm")
_NARROW = 16  # channels: a row of an action, or the like


def halved(model: ModelProto) -> ModelProto:
    """A copy whose products are in 16 bits; inputs and outputs stay in 32."""
    halved = ModelProto()
    halved.CopyFrom(model)
    graph = halved.graph
    weights = {weight.name: weight for weight in graph.initializer}
    narrow = {name for name, weight in weights.items() if min(weight.dims, default=0) < _NARROW}
    nodes, known = [], {}
    for node in graph.node:
        product = node.op_type in _PRODUCTS and not narrow.intersection(node.input[:2])
        for i, name in enumerate(node.input if product else ()):
            if name not in known:
                known[name] = f"{name}/half"
                if name in weights:
                    half = numpy_helper.to_array(weights[name]).astype(np.float16)
                    graph.initializer.append(numpy_helper.from_array(half, known[name]))
                else:
                    nodes.append(
                        helper.make_node("Cast", [name], [known[name]], to=TensorProto.FLOAT16)
                    )
            node.input[i] = known[name]
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
    return halved
