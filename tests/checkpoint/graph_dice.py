"""Graphs of random nodes: what no file has, most of them wrong in several ways."""

from __future__ import annotations

from graph_lies import BOOL, FLOAT, INT32, TEXT, call, const, function, graph_def, holder, node
from tf_tables import message

OPERATIONS = (
    *(("Neg", 1), ("AddV2", 2), ("Identity", 1), ("IdentityN", 2), ("Snapshot", 1), ("Shape", 1)),
    *(("Switch", 2), ("Switch", 2), ("Merge", 2), ("Merge", 2), ("RefSwitch", 2), ("RefMerge", 3)),
    *(("LogicalNot", 1), ("LogicalAnd", 2), ("LogicalOr", 2), ("Less", 2), ("Split", 2)),
    *(("Enter", 1), ("Enter", 1), ("Exit", 1), ("NextIteration", 1), ("LoopCond", 1), ("Range", 3)),
    *(("TensorArrayV3", 1), ("TensorArrayReadV3", 3), ("TensorArrayWriteV3", 4)),
    *(("TensorArrayGatherV3", 3), ("TensorArrayScatterV3", 4)),
    *(("TensorListFromTensor", 2), ("TensorListGetItem", 3), ("TensorListSetItem", 3)),
    *(("TensorListStack", 2), ("TensorListReserve", 2), ("ReadVariableOp", 1), ("VarHandleOp", 0)),
    *(("VariableV2", 0), ("ResourceGather", 2), ("VariableShape", 1), ("Assign", 2)),
    *(("AssignVariableOp", 2), ("RestoreV2", 3), ("NoOp", 0), ("Placeholder", 0)),
    *(("PlaceholderWithDefault", 1), ("If", 2), ("StatelessIf", 2), ("Case", 2), ("While", 3)),
    *(("StatelessWhile", 3), ("PartitionedCall", 1), ("StatefulPartitionedCall", 2)),
)
"""Those that are treated in a way of their own, with the number of their inputs."""
LOOP = {"While", "StatelessWhile"}
FUNCTIONS = ("f", "g", "h", "body", "cond")


def random_source(dice, names):
    name = dice.choice(names)
    end = dice.choice(("",) * 12 + (":1", ":0", ":0", ":3"))
    return f"^{name}" if dice.random() < 0.05 else name + end


def random_node(dice, name, names):
    if dice.random() < 0.002:
        name = dice.choice(names)
    if dice.random() < 0.1:
        return random_constant(dice, name)
    if dice.random() < 0.1:
        inputs = [random_source(dice, names) for _ in range(dice.randrange(4))]
        return call(name, dice.choice(FUNCTIONS), *inputs)
    op, count = dice.choice(OPERATIONS)
    op = dice.choice(FUNCTIONS) if dice.random() < 0.05 else op
    count = max(0, count + dice.choice((0,) * 40 + (-1, 1)))
    inputs = [random_source(dice, names) for _ in range(count)]
    return node(name, op, *inputs, **random_attributes(dice))


def random_attributes(dice):
    function = {key: {"func": {"name": dice.choice(FUNCTIONS).encode()}} for key in
                ("f", "body", "cond", "then_branch", "else_branch")}  # fmt: skip
    branches = [{"name": dice.choice(FUNCTIONS).encode()} for _ in range(dice.randrange(3))]
    found = {
        **function,
        "branches": {"list": {"func": branches}},
        "T": {"type": dice.choice((FLOAT, INT32, BOOL, 20))},
        "dtype": {"type": dice.choice((FLOAT, FLOAT, INT32))},
        "shape": {"shape": {"dim": [{"size": dice.choice((4, -1))}]}},
        "shared_name": {"s": dice.choice((b"v", b"w", b""))},
        "frame_name": {"s": dice.choice((b"a", b"b"))},
        "is_constant": {"b": dice.random() < 0.3},
        "num_split": {"i": dice.choice((2, 3, -1, 10**6))},
        "open": {"placeholder": b"T"},
    }
    return {key: value for key, value in found.items() if dice.random() < 0.95}


def random_constant(dice, name):
    kind = dice.choice((
        {"type": BOOL, "bool_val": [dice.random() < 0.5]},
        {"type": INT32, "int_val": [dice.choice((0, 1, -1, 7))]},
        {"float_val": [1.5]},
        {"type": TEXT, "string_val": [dice.choice((b"v", b"", b"4 0,4"))]},
    ))  # fmt: skip
    return const(name, *dice.choice(((), (), (1,), (2,), (0,))), **kind)


def random_nodes(dice, count, names):
    """Most of them take results of those before them."""
    own = [f"n{number}" for number in range(count)]
    found = []
    for number, name in enumerate(own):
        before = own[:number] if dice.random() < 0.95 else own
        found.append(random_node(dice, name, [*names, *before]))
    return found


def like_a_map(dice):
    """A loop that is a map, but for what is changed of it."""
    inputs = [random_source(dice, ["x", "lists", "x"]) for _ in range(4)]
    return [
        node("lists", "TensorListFromTensor", "x", "x"),
        node("map", "While", *dice.choice((["x", "lists", "x", "x"], inputs)),
             body={"func": {"name": b"body"}}, cond={"func": {"name": b"cond"}}),
        node("stack", "TensorListStack", "map:2", "x"),
    ]  # fmt: skip


def body_of_a_map(dice):
    names = ["i", "l", "o", "k"]
    nodes = [
        const("one"), node("add", "AddV2", "i", "one:output:0"),
        node("get", "TensorListGetItem", "l", "i", "one:output:0"),
        node("set", "TensorListSetItem", "o", "i", dice.choice(("get:item:0", "n2:y:0", "k"))),
    ]  # fmt: skip
    nodes += random_nodes(dice, 4, [*names, "get", "add"])
    ends = {"a": "add:z:0", "b": "l", "c": "set:output_handle:0", "d": "k"}
    if dice.random() < 0.2:
        ends[dice.choice("abcd")] = random_source(dice, ["i", "l", "get", "n1"]).removeprefix("^")
    return function("body", names, ends, *nodes)


def random_graph(dice):
    """A ``MetaGraphDef`` with a few functions and a checkpoint's names in it."""
    maps = like_a_map(dice) if dice.random() < 0.5 else []
    names = ["x", *(one["name"].decode() for one in maps)]
    nodes = [holder(), *maps, *random_nodes(dice, dice.randrange(2, 14), names)]
    functions = [body_of_a_map(dice), function("cond", ["i", "l", "o", "k"], {"r": "n0:z:0"},
                                               node("n0", "Less", "i", "i"))]  # fmt: skip
    for name in FUNCTIONS[:3]:
        arguments = ["a", "b"][: dice.randrange(3)]
        inner = random_nodes(dice, dice.randrange(1, 6), [*arguments, "n0"])
        ends = {f"r{number}": random_source(dice, [*arguments, "n0", "n1"]).removeprefix("^")
                for number in range(dice.randrange(1, 3))}  # fmt: skip
        functions.append(function(name, arguments, ends, *inner))
    saver = {"restore_op_name": dice.choice((b"n1", b"n3", b"map", b""))}
    return message("MetaGraphDef", graph_def=graph_def(nodes, functions), saver_def=saver)
