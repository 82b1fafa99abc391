"""Graphs made by hand that lie, of every kind of file.

``LIES``: by what is wrong, a function that writes it into a folder and gives its path, and a part
of the message.  ``LARGE``: sound ones, in which something is there very often.
"""

from __future__ import annotations

import json
import struct

import flat_tables as flat
from flat_tables import FLOAT32, INT4, INT8, STRING, flatbuffer, int8, int32, int32s, uint8
from tf_tables import FLOAT, INT32, bundle_entry, message, string_entry, write_bundle

BOOL, COMPLEX, TEXT, RESOURCE = 10, 8, 7, 20
FOUR = struct.pack("<4f", 1, 2, 3, 4)


# ---- pieces of graphs ----------------------------------------------------------------------------


def sizes(*numbers):
    return {"dim": [{"size": number} for number in numbers]}


def node(name, op, *inputs, **attributes):
    attr = [{"key": key.encode(), "value": value} for key, value in attributes.items()]
    names = [one.encode() for one in inputs]
    return {"name": name.encode(), "op": op.encode(), "input": names, "attr": attr}


def holder(name="x", *shape):
    return node(
        name, "Placeholder", dtype={"type": FLOAT}, shape={"shape": sizes(*(shape or (2,)))}
    )


def const(name="k", *shape, type=FLOAT, **values):
    values = values or {"float_val": [1.0]}
    tensor = {"dtype": type, "tensor_shape": sizes(*shape), **values}
    return node(name, "Const", dtype={"type": type}, value={"tensor": tensor})


def call(name, function, *inputs, op="PartitionedCall"):
    return node(name, op, *inputs, f={"func": {"name": function.encode()}})


def function(name, arguments, results, *nodes):
    """``results``: from each result's name to where it comes from."""
    signature = {
        "name": name.encode(),
        "input_arg": [{"name": one.encode(), "type": FLOAT} for one in arguments],
        "output_arg": [{"name": one.encode(), "type": FLOAT} for one in results],
    }
    ret = [{"key": key.encode(), "value": value.encode()} for key, value in results.items()]
    return {"signature": signature, "node_def": nodes, "ret": ret}


def identity(name="same"):
    return function(name, ["a"], {"r": "n:y:0"}, node("n", "Neg", "a"))


def graph_def(nodes, functions=()):
    library = {"function": list(functions)}
    return message("GraphDef", node=nodes, library=library, versions={"producer": 100})


def graph(*nodes, functions=()):
    def write(folder):
        (folder / "lie.pb").write_bytes(graph_def(nodes, functions).SerializeToString())
        return folder / "lie.pb"

    return write


def raw(data, name="lie.pb"):
    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def text(content):
    return raw(content if isinstance(content, bytes) else content.encode(), "lie.pbtxt")


def of_const(*args, **values):
    """A constant that is added to the input."""
    return graph(holder(), const("k", *args, **values), node("y", "AddV2", "x", "k"))


# ---- functions -----------------------------------------------------------------------------------


def calling(*functions):
    return graph(holder(), call("y", "f", "x"), functions=functions)


def branching(op, **branches):
    """A function that calls itself in the branch that a constant takes."""
    given = {key: {"func": {"name": b"f"}} for key in branches}
    given |= {"branches": {"list": {"func": [{"name": b"f"}]}}} if op == "Case" else {}
    kind = {"type": INT32, "int_val": [0]} if op == "Case" else {"type": BOOL, "bool_val": [True]}
    return calling(
        function("f", ["a"], {"r": "i:output:0"}, const("p", **kind),
                 node("i", op, "p:output:0", "a", **given)),
    )  # fmt: skip


def in_a_row(count, last, name="c"):
    """Functions that call the next one."""
    inner = [
        function(f"f{n}", ["a"], {"r": f"{name}:output:0"}, call(name, f"f{n + 1}", "a"))
        for n in range(count)
    ]
    return [*inner, last(f"f{count}")]


def doubling(count, *nodes, result="n:y:0", functions=(), width=1):
    """Functions that call the next one twice; ``nodes`` are in the last one."""
    first, second = "p" * width, "q" * width
    inner = [
        function(
            f"f{n}", ["a"], {"r": f"{second}:output:0"},
            call(first, f"f{n + 1}", "a"), call(second, f"f{n + 1}", f"{first}:output:0"),
        )
        for n in range(count)
    ]  # fmt: skip
    last = function(f"f{count}", ["a"], {"r": result}, *nodes)
    return graph(holder(), call("y", "f0", "x"), functions=[*inner, last, *functions])


def loop(*nodes, results=None, inputs=("x", "lists", "x"), more=(), names=("i", "l", "o")):
    """A ``While`` as ``tf.map_fn`` makes it."""
    results = results or {"ri": "add:z:0", "rl": "l", "ro": "set:output_handle:0"}
    body = function("body", names, results, *nodes)
    condition = function("cond", names, {"r": "lt:z:0"}, node("lt", "Less", "i", "i"))
    given = {"body": {"func": {"name": b"body"}}, "cond": {"func": {"name": b"cond"}}}
    return graph(
        holder(), node("lists", "TensorListFromTensor", "x", "x"),
        node("while", "While", *inputs, **given), node("y", "TensorListStack", "while:2", "x"),
        functions=[body, condition, *more],
    )  # fmt: skip


COUNT = (const("one"), node("add", "AddV2", "i", "one:output:0"))
ELEMENT = node("get", "TensorListGetItem", "l", "i", "one:output:0")


def put(source):
    return node("set", "TensorListSetItem", "o", "i", source)


# ---- constants -----------------------------------------------------------------------------------

MEBIBYTE = bytes(2**20)

OF_GRAPHS = {
    "a node that takes itself": (
        graph(holder(), node("y", "AddV2", "x", "y")), "a graph without outputs",
    ),
    "nodes in a circle": (
        graph(holder(), node("a", "AddV2", "x", "b"), node("b", "Neg", "a"), node("y", "Neg", "b")),
        "in a circle through this node",
    ),
    "identities in a circle": (
        graph(holder(), node("a", "IdentityN", "b"), node("b", "IdentityN", "a"),
              node("y", "AddV2", "x", "a")),
        "in a circle through this node",
    ),
    "a circle through a function": (
        graph(holder(), call("a", "f", "x", "b"), node("b", "Neg", "a"), node("y", "Neg", "b"),
              functions=[function("f", ["a", "b"], {"r": "b"})]),
        "in a circle through this node",
    ),
    "a circle through a switch": (
        graph(holder(), const("p", type=BOOL, bool_val=[True]), node("s", "Switch", "m", "p"),
              node("m", "Merge", "s", "s:1"), node("y", "AddV2", "x", "m")),
        "in a circle through this node",
    ),
    "a function that calls itself": (
        calling(function("f", ["a"], {"r": "c:output:0"}, call("c", "f", "a"))),
        "f: a function that calls itself",
    ),
    "functions that call each other": (
        calling(function("f", ["a"], {"r": "c:output:0"}, call("c", "g", "a")),
                function("g", ["a"], {"r": "c:output:0"}, call("c", "f", "a"))),
        "a function that calls itself",
    ),
    "a function that is its own operation": (
        calling(function("f", ["a"], {"r": "c:r:0"}, node("c", "f", "a"))),
        "a function that calls itself",
    ),
    "a function that calls itself in an If": (branching("If", then_branch=1), "calls itself"),
    "a function that calls itself in a Case": (branching("Case"), "calls itself"),
    "a map within itself": (
        loop(*COUNT, ELEMENT, node("lists", "TensorListFromTensor", "get:item:0", "one:output:0"),
             node("inner", "While", "one:output:0", "lists:output_handle:0", "one:output:0",
                  body={"func": {"name": b"body"}}, cond={"func": {"name": b"cond"}}),
             put("inner:output:2")),
        "a function that calls itself",
    ),
    "functions that call two others": (doubling(50, node("n", "Neg", "a")), "50000 calls of"),
    "300 functions within each other": (
        graph(holder(), call("y", "f0", "x"), functions=in_a_row(300, identity)),
        "more than 100 functions within each other",
    ),
    "a function that is not there": (calling(identity("g")), "f: this function is not in the file"),
    "two functions of one name": (calling(identity("f"), identity("f")), "functions are named 'f'"),
    "a result from nowhere": (
        calling(function("f", ["a"], {"r": "nowhere:y:0"}, node("n", "Neg", "a"))),
        "function 'f': there is no node 'nowhere'",
    ),
    "a result that is not said": (
        calling({**identity("f"), "ret": []}), "f: its result 'r' comes from nowhere",
    ),
    "two results of one name": (
        calling({**identity("f"), "signature": {**identity("f")["signature"], "output_arg": [
            {"name": b"r"}, {"name": b"r"}]}}),
        "two results of the same name",
    ),
    "two arguments of one name": (
        calling(function("f", ["a", "a"], {"r": "a"})), "two arguments of the same name",
    ),
    "an argument that is not given": (
        calling(function("f", ["a", "b"], {"r": "b"})), "called with 1 arguments, has more",
    ),
    "a result that a function does not have": (
        graph(holder(), call("c", "f", "x"), node("y", "Neg", "c:3"), functions=[identity("f")]),
        "'f' has no result 3",
    ),
    "a result of another name": (
        graph(holder(), call("y", "f", "x"), functions=[
            function("f", ["a"], {"r": "c:nothing:0"}, node("c", "g", "a")), identity("g")]),
        "no name of an output: 'c:nothing:0'",
    ),
    "a call of nothing": (
        graph(holder(), node("y", "PartitionedCall", "x")), "y: PartitionedCall of no function",
    ),
    "an If without inputs": (graph(holder(), node("y", "If")), "y: If without inputs"),
    "a switch without a predicate": (
        graph(holder(), node("s", "Switch", "x"), node("y", "Neg", "s")),
        "s: Switch with 1 inputs, which has no number 1",
    ),
    "a call of 10,000 arguments, 8,192 times": (
        doubling(13, call("u", "g", *["a"] * 10_000), result="u:output:0",
                 functions=[function("g", [f"a{n}" for n in range(10_000)], {"r": "a5"})]),
        "steps to write out",
    ),
    "names of calls that are longer than any": (
        graph(holder(), call("c", "f0", "x"), call("d", "f0", "c"),
              functions=in_a_row(20, identity, "c" * 300)),
        "longer than any",
    ),
    "names of calls that are longer than memory": (
        doubling(14, *(node(f"n{n}", "Neg", f"n{n - 1}:y:0" if n else "a") for n in range(6)),
                 result="n5:y:0", width=270),
        "longer than any",
    ),
    "a loop over fewer values than its body takes": (
        loop(*COUNT, ELEMENT, put("get:item:0"), inputs=("x",)),
        "while: a loop over 1 values, its body takes 3",
    ),
    "a map of a node that is not there": (
        loop(*COUNT, ELEMENT, put("nowhere:y:0")), "function 'body': there is no node 'nowhere'",
    ),
    "2**60 numbers": (of_const(2**60, tensor_content=FOUR), "more bytes than"),
    "2**50 numbers": (of_const(2**50, tensor_content=FOUR), "k: its constants stand for"),
    "2**124 numbers": (of_const(2**62, 2**62), "a shape of more bytes than"),
    "one number that fills 100 GB": (of_const(100 * 2**28), "k: its constants stand for"),
    "numbers that fill 2 GB together": (
        graph(holder(), *(const(f"k{n}", 2**25) for n in range(16)),
              node("y", "AddN", "x", *(f"k{n}" for n in range(16)))),
        "bytes more than the file has",
    ),
    "text that fills 100 GB": (
        of_const(2**26, type=TEXT, string_val=[b"word" * 400]), "k: its constants stand for",
    ),
    "a constant of 1 MB that is written out 16,384 times": (
        doubling(14, const("k", 2**18, tensor_content=MEBIBYTE),
                 node("n", "AddV2", "a", "k:output:0"), result="n:z:0"),
        "k: its constants stand for",
    ),
    "fewer bytes than numbers": (of_const(5, tensor_content=FOUR), "16 bytes for float32 of"),
    "more bytes than numbers": (of_const(3, tensor_content=FOUR), "16 bytes for float32 of"),
    "more numbers than places": (of_const(2, float_val=[1, 2, 3]), "3 values for shape"),
    "one number that fills 512 MB": (of_const(2**27), "float32 of shape [134217728], of which"),
    "one string that is two million": (
        of_const(2**21, type=TEXT, string_val=[b"a"]), "of which the file has 1 values",
    ),
    "a size below zero": (of_const(-2), "a shape that is not known"),
    "65 dimensions": (of_const(*[1] * 65), "more than 64 dimensions"),
    "a type that is no tensor's": (of_const(type=RESOURCE, int_val=[1]), "no tensor of PyTorch's"),
    "half of a complex number": (of_const(1, type=COMPLEX, scomplex_val=[1.0]), "imaginary part"),
    "int8 of 1000": (of_const(1, type=6, int_val=[1000]), "numbers that are no int8"),
    "a flag of 2": (of_const(1, type=BOOL, tensor_content=b"\2"), "neither true nor false"),
    "a constant without a value": (
        graph(holder(), node("k", "Const"), node("y", "AddV2", "x", "k")), "without a value",
    ),
    "a constant of another type": (
        graph(holder(), node("y", "AddV2", "x", "k"), {**const(), "attr": [
            *const()["attr"], {"key": b"dtype", "value": {"type": INT32}}]}),
        "k: a constant of type int32 whose value is float32",
    ),
    "two nodes of one name": (
        graph(holder(), node("y", "Neg", "x"), node("y", "Abs", "x")), "two nodes are named 'y'",
    ),
    "a node that is not there": (graph(holder(), node("y", "Neg", "z")), "there is no node 'z'"),
    "a name of colons": (graph(holder(), node("y", "Neg", ":" * 10**6)), "no name of an output"),
    "a result that no node has": (
        graph(holder(), const(), node("y", "AddV2", "x", "k:5")), "a constant has no result 5",
    ),
    "a result of immense number": (
        graph(holder(), node("y", "Neg", "x:99999999")), "no name of an output: 'x:99999999'",
    ),
    "a second result of an input": (
        graph(holder(), node("y", "AddV2", "x", "x:1")), "x: a placeholder that is no input",
    ),
    "a node without a name": (graph(holder(), node("", "Neg", "x")), "a node without a name"),
    "a node without an operation": (graph(holder(), node("y", "", "x")), "without an operation"),
    "a name of 5,000 letters": (graph(holder(), node("y" * 5000, "Neg", "x")), "longer than any"),
    "a name that is no UTF-8": (
        graph({**holder(), "name": b"\xff"}), "a name that is no UTF-8",
    ),
    "200,000,000 results that nobody takes": (
        graph(holder(), const(), *(
            node(f"s{n}", "Split", "k", "x", num_split={"i": 200_000}) for n in range(1000))),
        "200000000 results that nobody takes",
    ),
    "only inputs": (graph(holder()), "a graph without outputs"),
    "noise": (raw(b"\x0a\xff\xff"), "no valid GraphDef message"),
    "nothing": (raw(b""), "the file is empty"),
}  # fmt: skip


def nested(levels, field=b"\x0a"):
    """Messages within each other: each is the field of the one around it."""
    data = b""
    for _ in range(levels):
        size, length = len(data), b""
        while size >= 0x80:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        data = field + length + bytes([size]) + data
    return data


OF_GRAPHS["messages of 1,000 levels"] = (
    raw(nested(1000)), "a name that is no UTF-8",  # which is what they are, read as a graph
)  # fmt: skip


# ---- text ----------------------------------------------------------------------------------------

NODE = "node { name: 'y' op: 'Neg' attr { key: 'k' value { %s } } }"

OF_TEXT = {
    "messages without end": (text("node { " * 10_000), "no GraphDef message as text"),
    "unknown messages without end": (
        text("node { name: 'y' op: 'Neg' " + "more { " * 10_000), "no GraphDef message as text",
    ),
    "lists without end": (text("node { name: 'y' more: " + "[ " * 10_000), "no GraphDef message"),
    "400 levels that are known": (
        text("meta_info_def {} object_graph_def { concrete_functions { key: 'a' value { "
             "output_signature { " + "dict_value { fields { key: 'a' value { " * 400),
        "no MetaGraphDef message as text",
    ),
    "100,000 spaces": (text("node { name: 'y' op: 'Neg' }" + " " * 100_000), "spaces in a row"),
    "a number of 100,000 digits": (text(NODE % ("i: " + "9" * 100_000)), "no GraphDef message"),
    "text without an end": (text(NODE % "s: 'abc"), "no GraphDef message as text"),
    "text that is no UTF-8": (text(b"node { name: '\xff' op: 'Neg' }"), "no GraphDef message"),
    "a type that is not known": (text(NODE % "type: DT_SHORT"), "no value named DT_SHORT"),
    "an immense number of a type": (text(NODE % f"type: {10**20}"), "no GraphDef message as text"),
    "a name twice": (text("node { name: 'y' name: 'z' op: 'Neg' }"), "no GraphDef message as text"),
    "a file of another kind by its name": (
        text("saved_model_schema_version: 1"), "a SavedModel's file saved_model.pb of another name",
    ),
    "no nodes": (text("versions { producer: 5 }"), "a graph without nodes"),
}  # fmt: skip


# ---- variables -----------------------------------------------------------------------------------


def variable(dtype=FLOAT, *shape):
    about = {"dtype": {"type": dtype}, "shape": {"shape": sizes(*(shape or (4,)))}}
    return node("v", "VariableV2", **about)


def restoring(names=(b"v",), slices=(b"",), **given):
    """A graph that restores one variable."""
    texts = [
        const(name, len(values), type=TEXT, string_val=list(values))
        for name, values in (("names", names), ("slices", slices))
    ]
    return [
        holder(), given.get("variable", variable()), node("y", "AddV2", "x", "v"),
        const("file", type=TEXT, string_val=[b"model"]), *texts,
        node("restore", "RestoreV2", "file", "names", "slices"),
        node("assign", "Assign", "v", given.get("value", "restore")),
        node("all", "NoOp", "^assign"),
    ]  # fmt: skip


def beside(nodes, functions=(), keys=(b"v",), **meta):
    """A ``.meta`` file beside a checkpoint with one variable of four numbers."""

    def write(folder):
        write_bundle(folder / "lie", {key: bundle_entry(FOUR, 4) for key in keys}, FOUR)
        saver = {"restore_op_name": b"all"}
        graph = graph_def(nodes, functions)
        made = message("MetaGraphDef", **{"graph_def": graph, "saver_def": saver, **meta})
        (folder / "lie.meta").write_bytes(made.SerializeToString())
        return folder / "lie.meta"

    return write


LIST = {"key": b"trainable_variables", "value": {"bytes_list": {"value": [b"\xff\xff"]}}}

OF_VARIABLES = {
    "a variable that is nowhere": (
        beside([holder(), variable(), node("y", "AddV2", "x", "v")], keys=(b"w",)),
        "v: the checkpoint has no value of this variable",
    ),
    "a variable that is restored from nowhere": (
        beside(restoring(names=(b"nowhere",))), "v: the checkpoint has no value",
    ),
    "a variable of another type": (
        beside(restoring(variable=variable(INT32))), "v: a variable of type int32",
    ),
    "a variable of another shape": (
        beside(restoring(variable=variable(FLOAT, 5))), "v: a variable of type float32 and shape",
    ),
    "a part that is none": (beside(restoring(slices=(b"4 0-2",))), "restore: no slice of a tensor"),
    "a part of a part": (
        beside(restoring(slices=(b"4 " + b"0,2:" * 10**5,))), "restore: no slice of a tensor",
    ),
    "a part of another rank": (
        beside(restoring(slices=(b"4 4 -:-",))), "v: the checkpoint has no value",
    ),
    "a part that is outside": (
        beside(restoring(slices=(b"8 6,2",), variable=variable(FLOAT, 2))), "v: a variable of type",
    ),
    "names that stand for 100 GB": (
        beside([
            {**one, "attr": const("names", 2**30, type=TEXT, string_val=[b"v" * 100])["attr"]}
            if one["name"] == b"names" else one for one in restoring()]),
        "names: string of shape",
    ),
    "a list of variables that is none": (
        beside(restoring(), collection_def=[LIST]), "trainable_variables: no valid VariableDef",
    ),
    "a function that restores by calling itself": (
        beside([holder(), variable(), node("y", "AddV2", "x", "v"), call("all", "f", "x")],
               [function("f", ["a"], {"r": "c:output:0"}, call("c", "f", "a"))]),
        "a function that calls itself",
    ),
}  # fmt: skip


# ---- SavedModels ---------------------------------------------------------------------------------


def saved(nodes=(), functions=(), *, inputs=None, outputs=None, operations=(), **meta):
    """A folder with ``saved_model.pb``; a signature if it has outputs."""

    def tensors(names):
        return [
            {"key": key.encode(), "value": {"name": name.encode(), "dtype": FLOAT}}
            for key, name in (names or {}).items()
        ]

    signature = {"inputs": tensors(inputs), "outputs": tensors(outputs)}
    made = {
        "graph_def": graph_def(nodes or [holder(), node("y", "Neg", "x")], functions),
        "signature_def": [{"key": b"serving_default", "value": signature}] if outputs else [],
        "meta_info_def": {"tags": [b"serve"], "stripped_op_list": {"op": list(operations)}},
        **meta,
    }

    def write(folder):
        data = message("SavedModel", meta_graphs=[made]).SerializeToString()
        (folder / "saved_model.pb").write_bytes(data)
        return folder

    return write


def of_objects(*objects, bound=(), name=b"f", key=None, arguments=("a",), root=None, notes=()):
    """A SavedModel without signatures: the first object has the function as ``call``."""
    root = root or {"children": [{"node_id": 1, "local_name": b"call"}]}
    functions = {"function": {"concrete_functions": [name]}}
    concrete = [{"key": key or name, "value": {"bound_inputs": bound}}]
    graph = {"nodes": [root, functions, *objects], "concrete_functions": concrete}
    made = function(name.decode(errors="replace"), arguments, {"r": "n:y:0"},
                    node("n", "Neg", arguments[-1]))  # fmt: skip
    return saved([const()], [{**made, "arg_attr": notes}], object_graph_def=graph)


def with_values(size):
    """A SavedModel whose function is bound to a variable that has four numbers in the file."""
    variable = {"attributes": [{"checkpoint_key": b"v"}]}
    root = {"children": [{"node_id": 1, "local_name": b"call"}, {"node_id": 2, "local_name": b"v"}]}
    objects = message("TrackableObjectGraph", nodes=[root, {}, variable]).SerializeToString()
    saved_variable = {"variable": {"name": b"v", "dtype": FLOAT, "shape": sizes(size)}}
    graph = of_objects(saved_variable, bound=[2], root=root)

    def write(folder):
        text, about = string_entry(objects)
        entries = {OBJECT_GRAPH: about, b"v": bundle_entry(FOUR, 4, offset=len(text))}
        write_bundle(folder / "variables" / "variables", entries, text + FOUR)
        return graph(folder)

    return write


OBJECT_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
OUTPUTS = 10_000
FOO = {"name": b"Foo", "output_arg": [{"name": b"o%d" % n} for n in range(OUTPUTS)]}
SMALL_FOO = {"name": b"Foo", "output_arg": FOO["output_arg"][:3]}
ANY = {"x": "x:0"}

OF_SAVED_MODELS = {
    "an input that is not there": (
        saved(inputs={"x": "z:0"}, outputs={"y": "y:0"}), "there is no node 'z'",
    ),
    "an output that is not there": (saved(inputs=ANY, outputs={"y": "z:0"}), "no node 'z'"),
    "an input that is not given": (
        saved(inputs={}, outputs={"y": "y:0"}), "x: a placeholder that is no input of",
    ),
    "an output that is no name": (saved(inputs=ANY, outputs={"y": "a:b:c"}), "no name of an"),
    "an output of several tensors": (
        saved(inputs=ANY, outputs={"y": ""}), "'y' is made of several tensors",
    ),
    "an operation of 10,000 outputs": (
        saved([holder(), call("y", "f", "x")],
              [function("f", ["a"], {"r": "k:o5:0"}, node("k", "Foo", "a"))],
              inputs=ANY, outputs={"y": "y:0"}, operations=[FOO]),
        "Foo: an operation of 10000 outputs",
    ),
    "an output of another name": (
        saved([holder(), call("y", "f", "x")],
              [function("f", ["a"], {"r": "k:other:0"}, node("k", "Foo", "a"))],
              inputs=ANY, outputs={"y": "y:0"}, operations=[SMALL_FOO]),
        "no name of an output: 'k:other:0'",
    ),
    "more objects than arguments": (of_objects(bound=[2] * 5), "f: more objects than arguments"),
    "an object that is not there": (of_objects(bound=[7]), "bound_inputs: there is no object 7"),
    "an object below zero": (of_objects(bound=[-1]), "bound_inputs: there is no object -1"),
    "a variable without a value": (
        of_objects({"variable": {"name": b"v", "dtype": FLOAT}}, bound=[2]),
        "v: the checkpoint has no value of this variable",
    ),
    "a variable of another size": (
        with_values(5), "v: a variable of type float32 and shape (5,), but its value",
    ),
    "a constant that is none": (
        of_objects({"constant": {"operation": b"nowhere"}}, bound=[2]), "b'nowhere' is no constant",
    ),
    "a function whose name is no UTF-8": (of_objects(name=b"f\xff"), "a name that is no UTF-8"),
    "messages within each other": (
        raw(nested(1000, b"\x12"), "saved_model.pb"), "no valid|known kind|without outputs",
    ),
}  # fmt: skip


# ---- TFLite --------------------------------------------------------------------------------------

X, Y = flat.tensor("x"), flat.tensor("y")
NEGATION = flat.operator(0, [0], [1])


def tflite(root, changes=()):
    return raw(flatbuffer(root, changes=changes), "lie.tflite")


def network(*, tensors=(X, Y), inputs=(0,), outputs=(1,), operators=(NEGATION,), **more):
    graph = flat.subgraph(list(tensors), inputs, outputs, list(operators))
    return tflite(flat.model([graph], **more))


def with_constant(shape=(2,), kind=FLOAT32, data=FOUR[:8], **more):
    """``x + k``."""
    tensor = flat.tensor("k", shape, kind, 1, **more)
    operators = [flat.operator(1, [0, 1], [2])]
    return network(
        tensors=(X, tensor, Y), outputs=(2,), operators=operators, buffers=[flat.buffer(data)]
    )


def whole(size):
    return flat.Table({0: int8(0), 1: int32(size)})


def some(segments, indices):
    vectors = [flat.Table({0: int32s(*values)}) for values in (segments, indices)]
    return flat.Table({0: int8(1), 2: uint8(1), 3: vectors[0], 4: uint8(1), 5: vectors[1]})


def sparse(levels, order=(0,), blocks=(), shape=(6,), **more):
    about = flat.Table({0: int32s(*order), 1: int32s(*blocks), 2: levels})
    return with_constant(shape, sparsity=about, **more)


def steps(*scales, zeros=(0,), axis=0, shape=(2,)):
    about = flat.quantization(scales, zeros, axis)
    return with_constant(shape, INT8, b"\1\2", quantization=about)


def shared(count):
    """Constants that all have the same bytes."""
    about, size = flat.quantization(), 2**20
    constants = [flat.tensor(f"k{n}", (size,), INT8, 1, quantization=about) for n in range(count)]
    operators = [flat.operator(1, range(count + 1), [count + 1])]
    return network(
        tensors=[X, *constants, Y], outputs=(count + 1,), operators=operators,
        buffers=[flat.buffer(bytes(size))],
    )  # fmt: skip


def overlapping():
    """A long name that 10,000 tensors have."""
    return network(tensors=[flat.tensor("n" * 1000)] * 10_000)


def far(slot, value, part):
    """One distance that leads elsewhere."""
    root = flat.model([flat.subgraph([X, Y], [0], [1], [NEGATION])])
    target = root if part == "model" else root.fields[2].tables[0]
    return tflite(root, [(target, slot, value)])


def cut(size):
    root = flat.model([flat.subgraph([X, Y], [0], [1], [NEGATION])])
    return raw(flatbuffer(root)[:size], "lie.tflite")


def rooted(position):
    root = flat.model([flat.subgraph([X, Y], [0], [1], [NEGATION])])
    return raw(struct.pack("<I", position) + flatbuffer(root)[4:], "lie.tflite")


def strings(*numbers, text=b"", shape=(2,)):
    data = struct.pack(f"<{len(numbers)}i", *numbers) + text
    return with_constant(shape, STRING, data)


def external(offset, size):
    buffer = flat.Table({1: flat.uint64(offset), 2: flat.uint64(size)})
    operators = [flat.operator(1, [0, 1], [2])]
    tensor = flat.tensor("k", (2,), FLOAT32, 1)
    return network(tensors=(X, tensor, Y), outputs=(2,), operators=operators, buffers=[buffer])


OF_TFLITE = {
    "a root behind the end": (rooted(2**31), "flatbuffer: bytes"),
    "a root in the middle": (rooted(5), "flatbuffer|lie.tflite"),
    "a file that is cut short": (cut(60), "flatbuffer: bytes"),
    "only the first bytes": (cut(8), "flatbuffer: bytes"),
    "tables behind the end": (far(2, 2**31 - 1, "model"), "flatbuffer: bytes"),
    "tables before themselves": (far(2, -8, "model"), "flatbuffer"),
    "a vector behind the end": (far(1, 2**30, "graph"), "flatbuffer: bytes"),
    "a vector of 2**32 - 1 numbers": (
        tflite(flat.model([flat.Table({
            0: [X, Y], 1: flat.Vector("i", [0], 2**32 - 1), 2: int32s(1), 3: [NEGATION]})])),
        "flatbuffer: bytes",
    ),
    "2**32 - 1 tables": (
        tflite(flat.Table({2: flat.Tables([flat.Table({})], 2**32 - 1), 4: []})),
        "flatbuffer: bytes",
    ),
    "vectors that overlap": (overlapping(), "more than there is room for"),
    "no network": (tflite(flat.model([])), "a TFLite file without a network"),
    "an input that is no tensor": (network(inputs=(-1,)), "an input that is no tensor"),
    "an input twice": (network(inputs=(0, 0)), "an input that is no tensor, or is there twice"),
    "an input that is not there": (network(inputs=(2,)), "a tensor of 2 has another number"),
    "an output that is not there": (network(outputs=(-7,)), "a tensor of 2 has another number"),
    "an operator that takes what is not there": (
        network(operators=[flat.operator(0, [9], [1])]), "a tensor of 2 has another number",
    ),
    "an operator that takes its own result": (
        network(operators=[flat.operator(1, [0, 1], [1])]), "y: it is used before it is computed",
    ),
    "operators with one result": (
        network(operators=[NEGATION, NEGATION]), "an operator whose results others have",
    ),
    "an operator with a result twice": (
        network(operators=[flat.operator(0, [0], [1, 1])]), "an operator whose results others have",
    ),
    "an operator that makes an input": (
        network(operators=[flat.operator(0, [1], [0])]), "it is used before it is computed",
    ),
    "an operation that is not there": (
        network(operators=[flat.operator(9, [0], [1])]), "operator_codes: code 9 of 2",
    ),
    "a buffer that is not there": (
        network(tensors=(X, flat.tensor("y", buffer=5))), "y: buffer 5 of 1",
    ),
    "fewer bytes than numbers": (with_constant((3,)), "k: bytes 0 to 12 are asked for"),
    "2**60 numbers": (with_constant((2**30, 2**30)), "k: bytes 0 to"),
    "2**465 numbers": (with_constant((2**31 - 1,) * 15), "k: shape|k: bytes"),
    "a size below zero": (with_constant((-5, 2)), "k: shape [-5, 2]"),
    "17 dimensions": (with_constant((1,) * 17), "k: shape [1, 1"),
    "two shapes of other ranks": (
        network(tensors=(flat.tensor("x", (2,), signature=int32s(-1, 2)), Y)), "x: shapes (2,) and",
    ),
    "a type that is not known": (with_constant(kind=99), "k: data of type type 99"),
    "a type that is no tensor's": (with_constant(kind=flat.RESOURCE), "k: data of type resource"),
    "a flag of 2": (with_constant((2,), flat.BOOL, b"\1\2"), "k: bytes that are neither true nor"),
    "fewer halves of bytes than numbers": (with_constant((5,), INT4, b"12"), "k: bytes 0 to 3"),
    "bytes behind the file": (external(2**40, 8), "k: bytes 1099511627776 to"),
    "bytes beyond all": (external(2**63, 2**63), "k: bytes"),
    "a name that is no UTF-8": (
        network(tensors=(X, flat.Table({0: int32s(2), 3: b"\xff\xfe"}))), "a name that is no UTF-8",
    ),
    "a signature of another network": (
        tflite(flat.model([flat.subgraph([X, Y], [0], [1], [NEGATION])],
                          signatures=[flat.signature({"x": 0}, {"y": 1}, "a", 5)])),
        "signature: subgraph 5 of 1",
    ),
    "two signatures of one name": (
        tflite(flat.model([flat.subgraph([X, Y], [0], [1], [NEGATION])],
                          signatures=[flat.signature({"x": 0}, {"y": 1}, "a")] * 2)),
        "signature: two are named 'a'",
    ),
    "2**31 strings": (strings(2**31 - 1, 8), "k: 2147483647 strings of shape"),
    "strings in another number": (strings(1, 8, 9), "k: 1 strings of shape [2]"),
    "strings behind the end": (strings(2, 16, 17, 99, text=b"a"), "k: bytes 17 to 99 are asked"),
    "strings before the beginning": (strings(2, -9, 17, 18), "k: bytes -9 to"),
    "strings that end before they begin": (strings(2, 17, 16, 18), "that end before they begin"),
    "more scales than channels": (steps(1, 1, 1, zeros=(0, 0, 0)), "k: 3 scales and 3 zeros for 2"),
    "more scales than zeros": (steps(1, 1), "k: 2 scales and 1 zeros for 2"),
    "a scale that is no number": (steps(float("nan")), "k: a scale that is not finite"),
    "an infinite scale": (steps(float("inf")), "k: a scale that is not finite"),
    "scales along an axis that is not there": (steps(1, axis=1), "k: scales along axis 1 of 1"),
    "scales along an axis below zero": (steps(1, axis=-3), "k: scales along axis -3 of 1"),
    "scales of a single number": (steps(1, 1, zeros=(0, 0), shape=()), "k: 2 scales"),
    "1,000 constants that share a megabyte": (shared(1000), "which is more than is there"),
    "2**31 - 1 places": (sparse([whole(2**31 - 1)]), "k: 3 places for 2 numbers"),
    "a place below zero": (sparse([some([0, 2], [-1, 3])]), "places for 2 numbers"),
    "a place outside": (sparse([some([0, 2], [0, 6])]), "k: a place outside of the tensor"),
    "a place twice": (sparse([some([0, 2], [3, 3])]), "k: two numbers for one place"),
    "fewer places than numbers": (sparse([some([0, 1], [3])]), "other than 2 places"),
    "segments that begin late": (sparse([some([1, 3], [0, 3])]), "do not fit their indices"),
    "segments that go back": (
        sparse([whole(2), some([0, 2, 1], [3])], order=(0, 1), shape=(2, 6)), "do not fit their",
    ),
    "no segments": (sparse([some([], [])]), "do not fit their indices"),
    "a level without indices": (
        sparse([flat.Table({0: int8(1)})]), "a level of sparse data without its indices",
    ),
    "20,000 blocks": (
        sparse([whole(2), *[whole(1)] * 20_000], order=range(20_001), blocks=[0] * 20_000),
        "that makes no sense",
    ),
    "a block of an axis that is not there": (
        sparse([whole(2), whole(1)], order=(0, 1), blocks=(5,)), "that makes no sense",
    ),
    "an order of other axes": (sparse([whole(2)], order=(3,)), "that makes no sense"),
    "fewer levels than axes": (sparse([]), "that makes no sense"),
    "2**28 numbers of two": (
        sparse([some([0, 2], [0, 3])], shape=(2**28,)), "which is more than is there",
    ),
    "sparse data of half bytes": (
        sparse([whole(2)], shape=(2,), kind=INT4), "k: sparse data of type int4",
    ),
}  # fmt: skip


# ---- TensorFlow.js -------------------------------------------------------------------------------


def js(nodes=None, *, topology=None, weights=(), **model):
    about = {"node": nodes} if topology is None else topology
    manifest = [{"paths": ["a.bin"], "weights": list(weights)}]

    def write(folder):
        (folder / "a.bin").write_bytes(bytes(16) if weights else b"")
        content = {"modelTopology": about, "weightsManifest": manifest, **model}
        (folder / "model.json").write_text(json.dumps(content))
        return folder / "model.json"

    return write


JS = [
    {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}}},
    {"name": "y", "op": "Neg", "input": ["x"]},
]
VALUE = {"tensor": {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "4"}]}}}


def attribute(value):
    return js([*JS, {"name": "z", "op": "Abs", "input": ["y"], "attr": {"k": value}}])


def signed(**signature):
    return js(JS, signature=signature)


RESULT = {"y": {"name": "y:0"}}

OF_JS = {
    "a number for a node": (js([5]), "modelTopology: no GraphDef message as JSON"),
    "nothing for a node": (js([None]), "modelTopology: no GraphDef message as JSON"),
    "text for a node": (js(["x"]), "a node without a name"),
    "numbers for names": (js([{"name": 5, "op": 6}]), "no GraphDef message as JSON"),
    "half of a character": (js([{"name": "\ud800", "op": "Neg"}]), "no GraphDef message as JSON"),
    "text for inputs": (js([{"name": "y", "op": "Neg", "input": "x"}]), "no GraphDef message"),
    "a list of attributes": (js([{**JS[1], "attr": []}]), "no GraphDef message as JSON"),
    "a number for an attribute": (attribute(5), "no GraphDef message as JSON"),
    "text for a number": (attribute({"i": "many"}), "no GraphDef message as JSON"),
    "a number that is too large": (attribute({"i": "9" * 30}), "no GraphDef message as JSON"),
    "a number that is infinite": (attribute({"i": 1e400}), "no GraphDef message as JSON"),
    "a fraction that is too large": (attribute({"f": 1e300}), "no GraphDef message as JSON"),
    "a table for a type": (attribute({"type": {}}), "no GraphDef message as JSON"),
    "a number for a library": (
        js(topology={"node": JS, "library": 5}), "no GraphDef message as JSON",
    ),
    "levels without end": (
        raw(b'{"modelTopology": ' + b'{"node": [' * 10_000, "model.json"), "no valid JSON",
    ),
    "300 levels": (
        raw(b'{"weightsManifest": [], "modelTopology": %s1%s}' % (b"[" * 300, b"]" * 300),
            "model.json"),
        "JSON of more than 200 levels",
    ),
    "a node that is not there": (js([{**JS[1], "input": ["z"]}]), "there is no node 'z'"),
    "a constant that is not among the weights": (
        js([*JS[:1], {"name": "k", "op": "Const", "attr": {"value": VALUE}},
            {"name": "y", "op": "AddV2", "input": ["x", "k"]}]),
        "k: a constant, whose value is not among the weights",
    ),
    "a variable that is not among the weights": (
        js([*JS[:1], {"name": "v", "op": "VarHandleOp"},
            {"name": "y", "op": "AddV2", "input": ["x", "v"]}]),
        "v: a variable, which is not among the weights",
    ),
    "a number for outputs": (signed(outputs=5), "signature.outputs: no names of tensors"),
    "a list of outputs": (signed(outputs=["y"]), "signature.outputs: no names of tensors"),
    "a number for an output": (signed(outputs={"y": 5}), "signature.outputs: 'y' names no tensor"),
    "an output without a name": (signed(outputs={"y": {}}), "signature.outputs: 'y' names no"),
    "an output that is not there": (signed(outputs={"y": {"name": "z"}}), "no node 'z'"),
    "an input that is not there": (
        signed(outputs=RESULT, inputs={"x": {"name": "z"}}), "there is no node 'z'",
    ),
    "a number for an input": (
        signed(outputs=RESULT, inputs={"x": 5}), "signature.inputs: 'x' names no tensor",
    ),
    "a number for a shape": (
        signed(outputs=RESULT, inputs={"x": {"name": "x:0", "tensorShape": 5}}),
        "signature.inputs.x: no TensorInfo message as JSON",
    ),
}  # fmt: skip


LIES = {
    f"{kind}: {what}": lie
    for kind, lies in (
        ("graph", OF_GRAPHS),
        ("text", OF_TEXT),
        ("variables", OF_VARIABLES),
        ("SavedModel", OF_SAVED_MODELS),
        ("TFLite", OF_TFLITE),
        ("TensorFlow.js", OF_JS),
    )
    for what, lie in lies.items()
}


# ---- large ---------------------------------------------------------------------------------------

MANY = 10_000


def many_operators(count):
    tensors = [flat.tensor(f"t{n}") for n in range(count + 1)]
    operators = [flat.operator(0, [n], [n + 1]) for n in range(count)]
    return network(tensors=tensors, outputs=(count,), operators=operators)


def bound_many(count):
    """A function that is bound to constants, all by the same name, with notes on its arguments."""
    names = [f"a{n}" for n in range(count + 1)]
    objects = [{"constant": {"operation": b"k"}}] * count
    write = of_objects(*objects, bound=range(2, count + 2), arguments=names)
    return write


def loop_of_tf_1(name, frame, start, added=None):
    """Nodes between ``Enter`` and ``Exit`` that double a number, or add another to it."""
    return [
        node(f"{name}/enter", "Enter", start, frame_name={"s": frame.encode()}),
        node(f"{name}/merge", "Merge", f"{name}/enter", f"{name}/next"),
        node(f"{name}/less", "Less", f"{name}/merge", f"{name}/merge"),
        node(f"{name}/condition", "LoopCond", f"{name}/less"),
        node(f"{name}/switch", "Switch", f"{name}/merge", f"{name}/condition"),
        node(f"{name}/add", "AddV2", f"{name}/switch:1", added or f"{name}/switch:1"),
        node(f"{name}/next", "NextIteration", f"{name}/add"),
        node(f"{name}/exit", "Exit", f"{name}/switch"),
    ]


def loops_of_tf_1(count):
    """One after the other; each has the same large constant in it."""
    large = const("k", 2**18, tensor_content=MEBIBYTE)
    loops = [
        loop_of_tf_1(f"l{n}", f"frame{n}", f"l{n - 1}/exit" if n else "x", "k")
        for n in range(count)
    ]
    nodes = [one for loop in loops for one in loop]
    return graph(holder(), large, *nodes, node("y", "Neg", f"l{count - 1}/exit"))


LARGE = {
    "1,500 loops of TensorFlow 1 that take the same megabyte": loops_of_tf_1(1500),
    "100,000 nodes in a row": graph(
        holder(), *(node(f"n{n}", "Neg", f"n{n - 1}" if n else "x") for n in range(100_000))
    ),
    "100,000 nodes in a row that hand on": graph(
        holder(), *(node(f"n{n}", "IdentityN", f"n{n - 1}" if n else "x") for n in range(100_000)),
        node("y", "Neg", "n99999"),
    ),
    "an attribute of 100,000 numbers in a function that is called 8,192 times": doubling(
        13, node("n", "Neg", "a", big={"list": {"i": range(100_000)}})
    ),
    "10,000 attributes that a call gives": graph(
        holder(),
        node("y", "f", "x", **{f"z{n}": {"i": n} for n in range(MANY)}),
        functions=[function("f", ["a"], {"r": "n:y:0"}, node("n", "Neg", "a", **{
            f"k{n}": {"placeholder": b"z%d" % n} for n in range(MANY)}))],
    ),
    "10,000 rows of a variable": beside([
        holder(), variable(), *(node(f"y{n}", "ResourceGather", "v", "x") for n in range(MANY)),
    ]),
    "20,000 nodes that hand on in a map": loop(
        *COUNT, ELEMENT, *(
            node(f"d{n}", "Identity", f"d{n - 1}:output:0" if n else "get:item:0")
            for n in range(20_000)),
        put("d19999:output:0"),
    ),
    "10,000 objects of one name": bound_many(MANY),
    "20,000 operators of 200 kinds": tflite(flat.model(
        [flat.subgraph([flat.tensor(f"t{n}") for n in range(20_001)], [0], [20_000],
                       [flat.operator(n % 200, [n], [n + 1]) for n in range(20_000)])],
        codes=[flat.NEG] * 200,
    )),
    "20,000 inputs": network(
        tensors=[*(flat.tensor(f"x{n}") for n in range(20_000)), Y], inputs=range(20_000),
        outputs=(20_000,), operators=[flat.operator(1, [0, 1], [20_000])],
    ),
    "2,000 switches, each by the one before": graph(
        holder(), const("l0", type=BOOL, bool_val=[True]), *(
            one for n in range(1, 2000) for one in (
                node(f"s{n}", "Switch", f"l{n - 1}", f"l{n - 1}"),
                node(f"m{n}", "Merge", f"s{n}", f"s{n}:1"),
                node(f"l{n}", "LogicalAnd", f"m{n}", f"m{n}"))),
        node("s", "Switch", "x", "l1999"), node("a", "Neg", "s"), node("b", "Abs", "s:1"),
        node("m", "Merge", "a", "b"), node("y", "Neg", "m"),
    ),
}  # fmt: skip
