"""The fields of TFLite's flatbuffers that are read here, by their numbers.

``tensorflow/compiler/mlir/lite/schema/schema.fbs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcompat_dw.checkpoint import flexbuffers
from tfcompat_dw.checkpoint.base import CheckpointError
from tfcompat_dw.checkpoint.flatbuffers import Table
from tfcompat_dw.checkpoint.nodes import Attributes
from tfcompat_dw.checkpoint.schemas import MESSAGES, parse

TENSOR_TYPES = (
    "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
    "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4",
    "bfloat16", "int2", "uint4",
)  # fmt: skip
"""TensorFlow's names, by number."""
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT")
PADDINGS = ("SAME", "VALID")
MIRRORS = ("REFLECT", "SYMMETRIC")
CUSTOM = 32
_OPERATORS = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM
EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN
EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX
MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV
SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT
REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU
SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU
REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM BATCH_MATMUL
PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE
READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM
MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT
STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM
STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM
STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER
STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE
STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT
STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR
REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
OPERATORS = tuple(_OPERATORS.split())
"""``BuiltinOperator``, by number."""

_CONV = """
0 padding padding
1 int32 stride_w
2 int32 stride_h
3 activation fused_activation_function
4 int32 dilation_w_factor=1
5 int32 dilation_h_factor=1
"""
_CONV_3D = """
0 padding padding
1 int32 stride_d
2 int32 stride_w
3 int32 stride_h
4 activation fused_activation_function
5 int32 dilation_d_factor=1
6 int32 dilation_w_factor=1
7 int32 dilation_h_factor=1
"""
_FUSED = "0 activation fused_activation_function"
_POOL = """
0 padding padding
1 int32 stride_w
2 int32 stride_h
3 int32 filter_width
4 int32 filter_height
5 activation fused_activation_function
"""
_REDUCE = "0 bool keep_dims"
_BLOCK = "0 int32 block_size"
_OUTPUT_TYPE = "0 type output_type"
_OPTIONS = {
    "CONV_2D": _CONV,
    "DEPTHWISE_CONV_2D": """
        0 padding padding
        1 int32 stride_w
        2 int32 stride_h
        3 int32 depth_multiplier
        4 activation fused_activation_function
        5 int32 dilation_w_factor=1
        6 int32 dilation_h_factor=1
    """,
    "TRANSPOSE_CONV": """
        0 padding padding
        1 int32 stride_w
        2 int32 stride_h
        3 activation fused_activation_function
    """,
    **dict.fromkeys(("CONV_3D", "CONV_3D_TRANSPOSE"), _CONV_3D),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"), _POOL),
    "FULLY_CONNECTED": """
        0 activation fused_activation_function
        1 int8 weights_format
        2 bool keep_num_dims
    """,
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "L2_NORMALIZATION"), _FUSED),
    "CONCATENATION": """
        0 int32 axis
        1 activation fused_activation_function
    """,
    "SOFTMAX": "0 float32 beta",
    "LOCAL_RESPONSE_NORMALIZATION": """
        0 int32 radius
        1 float32 bias
        2 float32 alpha
        3 float32 beta
    """,
    "RESIZE_BILINEAR": """
        2 bool align_corners
        3 bool half_pixel_centers
    """,
    "RESIZE_NEAREST_NEIGHBOR": """
        0 bool align_corners
        1 bool half_pixel_centers
    """,
    "RESHAPE": "0 int32[] new_shape",
    "SQUEEZE": "0 int32[] squeeze_dims",
    "STRIDED_SLICE": """
        0 int32 begin_mask
        1 int32 end_mask
        2 int32 ellipsis_mask
        3 int32 new_axis_mask
        4 int32 shrink_axis_mask
        5 bool offset
    """,
    **dict.fromkeys(
        ("MEAN", "SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL"),
        _REDUCE,
    ),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN", "SHAPE"), _OUTPUT_TYPE),
    **dict.fromkeys(("SPLIT", "SPLIT_V"), "0 int32 num_splits"),
    "PACK": """
        0 int32 values_count
        1 int32 axis
    """,
    "UNPACK": """
        0 int32 num
        1 int32 axis
    """,
    "GATHER": """
        0 int32 axis
        1 int32 batch_dims
    """,
    "CAST": """
        0 type in_data_type
        1 type out_data_type
    """,
    "LEAKY_RELU": "0 float32 alpha",
    **dict.fromkeys(("SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), _BLOCK),
    "MIRROR_PAD": "0 mirror mode",
    "BATCH_MATMUL": """
        0 bool adj_x
        1 bool adj_y
    """,
    "CUMSUM": """
        0 bool exclusive
        1 bool reverse
    """,
    "GELU": "0 bool approximate",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": """
        0 activation fused_activation_function
        1 float32 cell_clip
        2 float32 proj_clip
        3 bool time_major
    """,
    "UNIDIRECTIONAL_SEQUENCE_RNN": """
        0 bool time_major
        1 activation fused_activation_function
    """,
    "BUCKETIZE": "0 float32[] boundaries",
    "UNIQUE": "0 type idx_out_type=2",
    "ONE_HOT": "0 int32 axis",
    "FAKE_QUANT": """
        0 float32 min
        1 float32 max
        2 int32 num_bits
        3 bool narrow_range
    """,
    "REVERSE_SEQUENCE": """
        0 int32 seq_dim
        1 int32 batch_dim
    """,
}
"""Number, type and name of each option; a type with brackets is a vector."""
_ENUMS: Mapping[str, tuple[str, ...]] = {
    "padding": PADDINGS,
    "activation": ACTIVATIONS,
    "mirror": MIRRORS,
    "type": TENSOR_TYPES,
}


def operator_name(number: int) -> str:
    """Of a builtin operator; its number where it is none that is known."""
    return OPERATORS[number] if 0 <= number < len(OPERATORS) else f"BUILTIN_{number}"


def options_of(op: str, table: Table | None) -> dict[str, Any]:
    """An operator's options under the schema's names; enums as text."""
    found: dict[str, Any] = {}
    lines = (line.split() for line in _OPTIONS.get(op, "").strip().splitlines())
    for number, kind, name in lines:
        name, _, default = name.partition("=")
        value = int(default) if default else 0
        if table is None:
            found[name] = [] if kind.endswith("[]") else _named(kind, value)
        elif kind.endswith("[]"):
            found[name] = table.vector(int(number), kind[:-2]).tolist()
        else:
            stored = "int8" if kind in _ENUMS else kind
            found[name] = _named(kind, table.number(int(number), stored, value))
    return found


def custom_options(name: str, options: bytes, path: Path) -> dict[str, Any]:
    """Of a custom operator, where they are a map; those of TensorFlow's node, if it is one.

    Others are known to the operator's own kernel alone.
    """
    try:
        found = flexbuffers.read(options)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    if not name.startswith("Flex"):
        return {}
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], (str, bytes)):
        raise CheckpointError(path, name[:200], "an operation of TensorFlow's without its node")
    node = found[1].encode() if isinstance(found[1], str) else found[1]
    message = parse(MESSAGES["NodeDef"], node, path, name[:200])  # without a name of its own
    return dict(Attributes(message.attr).plain)


def _named(kind: str, value: Any) -> Any:
    if kind == "bool":
        return bool(value)
    names = _ENUMS.get(kind)
    if names is None:
        return value
    return names[value] if 0 <= value < len(names) else f"{kind} {value}"
