"""Functions of tensors by the names that files give them.

``keras/src/ops`` (Keras 3) and ``tf.*`` (Keras 2's ``TFOpLambda``); TensorFlow's own operations are
in :mod:`tfcompat_dw.porting.nodes`.  What the functions mean is in
:mod:`tfcompat_dw.porting.functions`; beside the meaning stand the arguments that are called
otherwise there.
"""

from __future__ import annotations

_TF_REDUCE = {"input_tensor": "x", "keep_dims": "keepdims", "reduction_indices": "axis"}
_FEATURES = {"features": "x", "logits": "x"}

KERAS: dict[str, tuple[str, dict[str, str]]] = {
    **{
        name: (function, {"x1": "x", "x2": "y"})
        for name, function in {
            "Add": "add", "Subtract": "subtract", "Multiply": "multiply", "Divide": "divide",
            "TrueDivide": "divide", "Power": "power", "FloorDivide": "floor_divide",
            "Maximum": "maximum", "Minimum": "minimum",
        }.items()
    },
    **{
        name: (function, {})
        for name, function in {
            "Negative": "negative", "Absolute": "absolute", "Abs": "absolute", "Square": "square",
            "Sqrt": "sqrt", "Rsqrt": "rsqrt", "Exp": "exp", "Log": "log", "Sin": "sin",
            "Cos": "cos", "Floor": "floor", "Ceil": "ceil", "Identity": "identity",
            "StopGradient": "stop_gradient", "Relu": "relu", "Relu6": "relu6",
            "Sigmoid": "sigmoid", "Tanh": "tanh", "Silu": "silu", "Swish": "silu",
            "Selu": "selu", "Softplus": "softplus", "Softsign": "softsign",
            "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "HardSwish": "hard_silu",
            "Gelu": "gelu", "LeakyRelu": "leaky_relu", "Softmax": "softmax",
            "LogSoftmax": "log_softmax", "Clip": "clip", "Mean": "mean", "Sum": "sum",
            "Max": "max", "Min": "min", "Var": "variance", "Std": "std", "Argmax": "argmax",
            "Transpose": "transpose", "ExpandDims": "expand_dims", "Squeeze": "squeeze",
            "Concatenate": "concatenate", "Stack": "stack", "GetItem": "getitem", "Pad": "pad",
            "Cast": "cast",
        }.items()
    },
    "Matmul": ("matmul", {"x1": "a", "x2": "b"}),
    "Reshape": ("reshape", {"newshape": "shape"}),
    "Split": ("split", {"indices_or_sections": "sections"}),
    "Resize": ("resize", {"images": "x"}),
    "Repeat": ("repeat", {}), "Tile": ("tile", {}), "Flip": ("reverse", {}),
}  # fmt: skip
TF: dict[str, tuple[str, dict[str, str]]] = {
    **{
        name: (function, {})
        for name, function in {
            "math.add": "add", "__operators__.add": "add", "math.subtract": "subtract",
            "math.multiply": "multiply", "math.divide": "divide", "math.truediv": "divide",
            "math.pow": "power", "math.floordiv": "floor_divide", "math.maximum": "maximum",
            "math.minimum": "minimum", "math.negative": "negative", "math.abs": "absolute",
            "math.square": "square", "math.sqrt": "sqrt", "math.rsqrt": "rsqrt",
            "math.exp": "exp", "math.log": "log", "math.sin": "sin", "math.cos": "cos",
            "math.floor": "floor", "math.ceil": "ceil", "math.sigmoid": "sigmoid",
            "math.tanh": "tanh", "math.softplus": "softplus",
        }.items()
    },
    "add": ("add", {}), "subtract": ("subtract", {}), "multiply": ("multiply", {}),
    "divide": ("divide", {}), "truediv": ("divide", {}), "pow": ("power", {}),
    "maximum": ("maximum", {}), "minimum": ("minimum", {}), "negative": ("negative", {}),
    "abs": ("absolute", {}), "square": ("square", {}), "sqrt": ("sqrt", {}),
    "exp": ("exp", {}), "sigmoid": ("sigmoid", {}), "tanh": ("tanh", {}),
    "identity": ("identity", {"input": "x"}), "stop_gradient": ("stop_gradient", {"input": "x"}),
    "nn.relu": ("relu", _FEATURES), "nn.relu6": ("relu6", _FEATURES),
    "nn.sigmoid": ("sigmoid", {}), "nn.tanh": ("tanh", {}), "nn.silu": ("silu", _FEATURES),
    "nn.swish": ("silu", _FEATURES), "nn.elu": ("elu", _FEATURES), "nn.selu": ("selu", _FEATURES),
    "nn.softplus": ("softplus", _FEATURES), "nn.softsign": ("softsign", _FEATURES),
    "nn.gelu": ("gelu_exact", _FEATURES),
    "nn.leaky_relu": ("leaky_relu", {**_FEATURES, "alpha": "negative_slope"}),
    "nn.softmax": ("softmax", _FEATURES), "nn.log_softmax": ("log_softmax", _FEATURES),
    "clip_by_value": ("clip", {"t": "x", "clip_value_min": "x_min", "clip_value_max": "x_max"}),
    "math.l2_normalize": ("l2_normalize", {}), "nn.l2_normalize": ("l2_normalize", {}),
    "linalg.l2_normalize": ("l2_normalize", {}),
    "math.reduce_mean": ("mean", _TF_REDUCE), "math.reduce_sum": ("sum", _TF_REDUCE),
    "math.reduce_max": ("max", _TF_REDUCE), "math.reduce_min": ("min", _TF_REDUCE),
    "math.reduce_variance": ("variance", _TF_REDUCE), "math.reduce_std": ("std", _TF_REDUCE),
    "math.argmax": ("argmax", {"input": "x"}),
    "reshape": ("reshape", {"tensor": "x"}), "transpose": ("transpose", {"a": "x", "perm": "axes"}),
    "expand_dims": ("expand_dims", {"input": "x"}), "squeeze": ("squeeze", {"input": "x"}),
    "concat": ("concatenate", {"values": "xs"}), "stack": ("stack", {"values": "xs"}),
    "split": ("split_sizes", {"value": "x", "num_or_size_splits": "sizes"}),
    "pad": ("pad", {"tensor": "x", "paddings": "pad_width"}),
    "compat.v1.transpose": ("transpose", {"a": "x", "perm": "axes"}),
    "compat.v1.squeeze": ("squeeze", {"input": "x"}),
    "compat.v1.floor_div": ("floor_divide", {}), "math.add_n": ("add_n", {"inputs": "xs"}),
    "reverse": ("reverse", {"tensor": "x"}), "unstack": ("unstack", {"value": "x"}),
    "tile": ("tile", {"input": "x", "multiples": "repeats"}), "repeat": ("repeat", {"input": "x"}),
    "nn.space_to_depth": ("space_to_depth", {"input": "x"}),
    "nn.depth_to_space": ("depth_to_space", {"input": "x"}), "math.round": ("round", {}),
    "image.resize": ("resize", {"images": "x", "method": "interpolation"}),
    "compat.v1.pad": ("pad", {"tensor": "x", "paddings": "pad_width"}),
    "cast": ("cast", {}), "linalg.matmul": ("matmul", {}), "matmul": ("matmul", {}),
    "getitem": ("getitem", {"slice_spec": "key"}),
}  # fmt: skip
