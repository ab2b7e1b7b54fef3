"""The work of a compiled program, read from its optimised HLO text: products, memory traffic and collectives.

`Compiled.cost_analysis()` counts the body of a loop once, regardless of the number of iterations
(`tests/benchmarks/test_hlo.py` shows this), and its bytes include traffic within the chip's own memory. Here every
computation is counted as often as it runs. The number of iterations of a loop is the constant in its condition.

    products      2 operations for every multiply-add of a `convolution`, of a `dot` or of a matrix product by a library
                  (on a GPU); on a TPU every matrix product is a convolution. Positions in the padding and between
                  dilated pixels are excluded.
    memory        bytes that every scheduled instruction, such as a fusion, reads and writes in the main memory. Arrays
                  in the chip's own memory, `S(1)` in their layout, are excluded. An operand is counted as a whole even
                  if a fusion reads only a part of it.
    collectives   kind, bytes and number of chips in a group. An asynchronous collective is counted where it starts. A
                  collective that a TPU splits over several fusions (a chain) is counted once.

Read `tpu.py` next, which computes a roofline from these numbers.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
FREE = {
    "parameter", "constant", "iota", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call",
    "after-all", "partition-id", "replica-id", "opt-barrier",
}  # fmt: skip
ARRAY = re.compile(r"\b(pred|[a-z]+\d\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
CALLS = re.compile(r"\b(?:calls|body|to_apply|\w+_computations?)=(?:\{([^}]*)\}|(%?[\w.\-]+))")


class Array(NamedTuple):
    """An array type: element type ("bf16"), shape, and whether it is in the main memory (`S(n)` with n > 0 is not)."""

    kind: str
    shape: tuple[int, ...]
    is_in_main_memory: bool

    @property
    def bytes(self) -> int:
        """Size in bytes, without the padding to tiles."""
        bits = 8 if self.kind == "pred" else int(re.findall(r"\d+", self.kind)[0])
        return -(-bits * math.prod(self.shape) // 8)


class Instruction(NamedTuple):
    """An instruction `name = arrays opcode(inside), attributes`; a tuple is a list of its arrays."""

    name: str
    arrays: list[Array]
    opcode: str
    inside: str
    attributes: str

    @property
    def operands(self) -> list[str]:
        """The names of the operands."""
        return re.findall(r"%([\w.\-]+)", self.inside)

    def find(self, pattern: str) -> str:
        """The first group of `pattern` in the attributes; empty if it is not there."""
        match = re.search(pattern, self.attributes)
        return match[1] if match else ""


class Collective(NamedTuple):
    """An exchange of data between chips.

    Attributes:
      kind: one of COLLECTIVES.
      bytes: size on each chip of the reduced, or of the gathered, array.
      group: number of chips that take part.
      times: number of executions in a run of the program.
    """

    kind: str
    bytes: int
    group: int
    times: int


class Work(NamedTuple):
    """The work of a scheduled instruction, such as a fusion.

    Attributes:
      times: number of executions in a run of the program.
      products: FLOPs of its matrix products and convolutions, with the smallest of the three lengths of each: rows,
        columns and contracted length of one product of a batch.
      bytes: bytes read and written in the main memory.
    """

    times: int
    products: tuple[tuple[int, int], ...]
    bytes: int


class Program(NamedTuple):
    """The work of one chip in a run of the program.

    Attributes:
      flops: floating-point operations of matrix products and convolutions.
      flops_once: `flops` with one iteration of every loop, for comparison with `cost_analysis`.
      memory_bytes: bytes read and written in the main memory.
      collectives: all exchanges of data between chips.
      unknown_loops: names of the loops whose number of iterations is not in the text.
      work: the instructions in the order of the text, without those that cost nothing.
    """

    flops: int
    flops_once: int
    memory_bytes: int
    collectives: list[Collective]
    unknown_loops: list[str]
    work: Sequence[Work] = ()


Computations = dict[str, list[Instruction]]


def read(text: str, num_chips: int = 1, *, unknown_turns: int = 1) -> Program:
    """Reads the text of `jax.stages.Compiled.as_text()`.

    Args:
      text: an optimised module.
      num_chips: number of chips that the program runs on.
      unknown_turns: number of iterations to assume for a loop that does not count up to a constant.

    Raises:
      ValueError: if the text is not that of a module.
    """
    computations, entry = _parse(text)
    times, once = defaultdict(int), defaultdict(int)
    scheduled, unknown = {entry}, []

    def visit(name: str, count: int) -> None:
        times[name] += count
        once[name] += 1
        for instruction in computations[name]:
            turns = 1
            if instruction.opcode == "while":
                turns = _turns(computations, instruction)
                if turns is None:
                    unknown.append(instruction.name)
                    turns = unknown_turns
            for called in _called(instruction):
                if name in scheduled and instruction.opcode in ("while", "conditional", "call"):
                    scheduled.add(called)
                visit(called, count * turns)

    visit(entry, 1)
    products = {name: list(_products(computations[name])) for name in times}
    flops = {name: sum(flops for _, flops, _ in products[name]) for name in times}

    def inside(instruction: Instruction, body: str) -> tuple[tuple[int, int], ...]:
        """The products of an instruction of a scheduled computation, and of the computations that it runs."""
        found = [entry[1:] for entry in products[body] if entry[0] == instruction.name]
        return (*found, *(entry[1:] for called in _called(instruction) for entry in products[called]))

    return Program(
        flops=sum(times[name] * flops[name] for name in times),
        flops_once=sum(once[name] * flops[name] for name in times),
        memory_bytes=sum(times[name] * sum(size for _, size in _traffic(computations[name])) for name in scheduled),
        collectives=_collectives(computations, times, num_chips),
        unknown_loops=unknown,
        work=[
            Work(times[name], inside(instruction, name), size)
            for name in computations
            if name in scheduled
            for instruction, size in _traffic(computations[name])
        ],
    )


# ---- the text


def _parse(text: str) -> tuple[Computations, str]:
    """Parses the text: computations by name, and the name of the entry computation."""
    computations, entry, body = {}, None, []
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            body = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        elif found := re.match(r"\s+(?:ROOT )?%([\w.\-]+) = (.*)", line):
            body.append(_instruction(found[1], found[2]))
    if entry is None:
        raise ValueError(f"the text has no ENTRY computation, so it is not an HLO module; it begins {text[:40]!r}")
    return computations, entry


def _instruction(name: str, rest: str) -> Instruction:
    end = _closing(rest) if rest.startswith("(") else rest.index(" ")
    arrays, rest = _arrays(rest[:end]), rest[end:].lstrip()
    opening = rest.index("(")
    end = opening + _closing(rest[opening:])
    return Instruction(name, arrays, rest[:opening], rest[opening:end], rest[end:])


def _closing(text: str) -> int:
    """The end of the parenthesis that opens `text`."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.end()
    raise ValueError(f"a parenthesis is not closed: {text[:80]!r}")


def _arrays(text: str) -> list[Array]:
    """Every array of a type; tokens are excluded."""
    found = []
    for kind, lengths, layout in ARRAY.findall(text):
        shape = tuple(int(length) for length in lengths.split(",") if length)
        found.append(Array(kind, shape, not re.search(r"S\([1-9]", layout)))
    return found


def _called(instruction: Instruction) -> list[str]:
    """The computations that an instruction runs, without the condition of a loop."""
    groups = ("".join(group) for group in CALLS.findall(instruction.attributes))
    return [name.strip(" %") for group in groups for name in group.split(",") if name]


def _turns(computations: Computations, loop: Instruction) -> int | None:
    """Number of iterations of a loop that counts up from 0 by 1, such as a `scan` or `fori_loop`; None for others."""
    condition = computations[loop.find(r"condition=%?([\w.\-]+)")]
    parts = [*condition, *(part for caller in condition for name in _called(caller) for part in computations[name])]
    compares = [part for part in parts if part.opcode == "compare" and part.find(r"direction=(\w+)") == "LT"]
    constants = [part for part in parts if part.opcode == "constant" and part.arrays[0].shape == ()]
    bounds = {part.inside for part in constants if part.arrays[0].kind in ("s32", "s64")}
    return int(bounds.pop()[1:-1]) if len(compares) == 1 and len(bounds) == 1 else None


# ---- counts


def _products(body: list[Instruction]) -> Iterator[tuple[str, int, int]]:
    """Name, floating-point operations and smallest length of each product in a computation."""
    arrays = {instruction.name: instruction.arrays for instruction in body}
    for instruction in body:
        if instruction.opcode == "convolution":
            image, kernel = (arrays[name][0].shape for name in instruction.operands[:2])
            features = kernel[instruction.find(r"dim_labels=\w+_(\w+)->").index("o")]
            lengths = math.prod(kernel) // features, features, math.prod(instruction.arrays[0].shape) // features
            yield instruction.name, _convolution(instruction, image, kernel), max(min(lengths), 1)
        elif axes := _contracted(instruction):
            left, right = (arrays[name][0].shape for name in instruction.operands[:2])
            inner, size = math.prod(left[axis] for axis in axes), math.prod(instruction.arrays[0].shape)
            per_row = max(math.prod(left) * math.prod(right) // max(size * inner, 1), 1)  # batch x inner
            lengths = inner, math.prod(left) // per_row, math.prod(right) // per_row
            yield instruction.name, 2 * size * inner, max(min(lengths), 1)


def _contracted(instruction: Instruction) -> list[int]:
    """The contracted axes of the left operand of a `dot`, or of a product by a library such as cuBLAS."""
    patterns = {
        "dot": r"lhs_contracting_dims=\{([\d,]*)\}",
        "custom-call": r'"lhs_contracting_dimensions":\[([^\]]*)\]',
    }
    found = instruction.find(patterns[instruction.opcode]) if instruction.opcode in patterns else ""
    return [int(axis) for axis in re.findall(r"\d+", found)]


def _convolution(instruction: Instruction, image: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    """FLOPs: twice the multiply-adds with pixels that exist. A batched product is a convolution with one more axis."""
    labels = instruction.find(r"dim_labels=([\w?>\-]+)").replace("->", "_").split("_")
    of_image, of_kernel, of_output = (
        dict(zip(names, shape, strict=True))
        for names, shape in zip(labels, (image, kernel, instruction.arrays[0].shape), strict=True)
    )
    axes = sorted(name for name in of_image if name.isdigit())

    def window(field: str, default: int) -> list[int]:
        """One number for each axis; for `pad`, the first of its two numbers."""
        found = instruction.find(rf"window=\{{[^}}]*\b{field}=([\dx_\-]+)")
        return [int(part.split("_")[0]) for part in found.split("x")] if found else [default] * len(axes)

    pairs = 1
    fields = window("stride", 1), window("pad", 0), window("lhs_dilate", 1), window("rhs_dilate", 1)
    for axis, stride, low, dilated, spaced in zip(axes, *fields, strict=True):
        at = stride * np.arange(of_output[axis])[:, None] + spaced * np.arange(of_kernel[axis]) - low
        pairs *= int(((at >= 0) & (at <= dilated * (of_image[axis] - 1)) & (at % dilated == 0)).sum())
    return 2 * pairs * of_output["b"] * of_output["f"] * of_kernel["i"]


def _traffic(body: list[Instruction]) -> Iterator[tuple[Instruction, int]]:
    """Bytes that each scheduled instruction reads and writes in the main memory."""

    def moved(*arrays: Array) -> int:
        return sum(array.bytes for array in arrays if array.is_in_main_memory)

    arrays = {instruction.name: instruction.arrays for instruction in body}
    for instruction in body:
        opcode, results = instruction.opcode, instruction.arrays
        if opcode in FREE or opcode.endswith(("-done", "-update")):
            continue
        operands = [arrays[name] for name in instruction.operands]
        if opcode in ("copy-start", "slice-start"):  # results: destination, source (in any order), context
            size = min(array.bytes for array in results[:2])
            yield instruction, size * sum(array.is_in_main_memory for array in results[:2])
        elif opcode in ("slice", "dynamic-slice", "gather"):
            yield instruction, results[0].bytes * (results[0].is_in_main_memory + operands[0][0].is_in_main_memory)
        elif opcode == "dynamic-update-slice":
            yield instruction, moved(*operands[1]) + operands[1][0].bytes * results[0].is_in_main_memory
        else:
            aliases = instruction.find(r"output_to_operand_aliasing=\{(.*?)\)\}")  # aliased, so not moved
            pairs = re.findall(r"\{(\d*)\}: \((\d+), \{\}", aliases)
            kept, given = {int(result or 0) for result, _ in pairs}, {int(operand) for _, operand in pairs}
            read = [array for at, group in enumerate(operands) if at not in given for array in group]
            yield instruction, moved(*read, *(array for at, array in enumerate(results) if at not in kept))


def _collectives(computations: Computations, times: dict[str, int], num_chips: int) -> list[Collective]:
    """All collectives of the program, each listed once."""
    found, chains = [], set()
    for name in (name for name in times if times[name]):
        for instruction in computations[name]:
            kind, chain = instruction.opcode.removesuffix("-start"), instruction.find(r'chain_id="(\d+)"')
            if kind not in COLLECTIVES or chain in chains:
                continue
            chains |= {chain} - {""}
            arrays = instruction.arrays
            if kind != instruction.opcode and kind != "all-reduce":  # arrays: operands, results, contexts
                arrays = [array for array in arrays if array.shape]
                arrays = arrays[len(arrays) // 2 :]
            group = _group(instruction, num_chips)
            size = sum(array.bytes for array in arrays) * (group if kind == "reduce-scatter" else 1)
            found.append(Collective(kind, size, group, times[name]))
    return found


def _group(instruction: Instruction, num_chips: int) -> int:
    """Number of chips in the group of a collective."""
    if listed := instruction.find(r"replica_groups=\{\{([\d,]+)\}"):
        return len(listed.split(","))
    if length := instruction.find(r"replica_groups=\[\d+,(\d+)\]<="):
        return int(length)
    return 2 if instruction.opcode.startswith("collective-permute") else num_chips
