"""What is read from HLO text: collectives of literal modules, and products and traffic held to XLA's own counts."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import hlo

MODULE = """HloModule step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%start (p: bf16[1,100]) -> (bf16[1,100], bf16[4,100], u32[]) {
  %p = bf16[1,100]{1,0:T(4,128)(2,1)} parameter(0)
  %gathered.1 = bf16[4,100]{1,0:T(4,128)} all-gather(%p), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, frontend_attributes={chain_id="7"}
  ROOT %started = (bf16[1,100]{1,0}, bf16[4,100]{1,0}, u32[]{:S(2)}) custom-call(%gathered.1), custom_call_target="AsyncCollectiveStart"
}

%go_on (p: bf16[1,100], x: f32[8]) -> f32[8] {
  %p = bf16[1,100]{1,0} parameter(0)
  %gathered.2 = bf16[4,100]{1,0:T(4,128)} all-gather(%p), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, frontend_attributes={chain_id="7"}
  %x = f32[8]{0} parameter(1)
  ROOT %y = f32[8]{0} negate(%x)
}

%body (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %state = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  %x = f32[8]{0:T(128)} get-tuple-element(%state), index=1
  %reduced = (f32[8]{0:T(128)S(1)}, f32[]{:T(128)}) all-reduce(%x, %zero), channel_id=2, replica_groups=[2,4]<=[8], use_global_device_ids=true, to_apply=%add
  ROOT %next = (s32[], f32[8]) tuple(%count, %reduced)
}

%below (state: (s32[], f32[8])) -> pred[] {
  %state = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %count = s32[]{:T(128)} get-tuple-element(%state), index=0
  %bound = s32[]{:T(128)} constant(5)
  ROOT %less = pred[]{:T(512)} compare(%count, %bound), direction=LT
}

ENTRY %main (x: f32[8], w: bf16[1,100]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0)
  %w = bf16[1,100]{1,0} parameter(1)
  %fused.1 = (bf16[1,100]{1,0}, bf16[4,100]{1,0}, u32[]{:S(2)}) fusion(%w), kind=kCustom, calls=%start
  %fused.2 = f32[8]{0} fusion(%w, %x), kind=kOutput, calls=%go_on
  %state = (s32[], f32[8]) tuple(%zero, %x)
  %loop = (s32[], f32[8]) while(%state), condition=%below, body=%body
  %early = (f32[8]{0}, f32[64]{0}) all-gather-start(%x), channel_id=3, replica_groups={}, dimensions={0}
  %late = f32[64]{0} all-gather-done(%early)
  %both = ((f32[8]{0}, f32[4]{0}), (f32[8]{0}, f32[4]{0}), u32[], u32[]) collective-permute-start(%x, %y), channel_id=4, source_target_pairs={{0,1},{1,0}}
  %quick = f32[16]{0} all-reduce-start(%late), channel_id=5, replica_groups={}, to_apply=%add
  %slow = f32[16]{0} all-reduce-done(%quick)
  ROOT %part = f32[2]{0} reduce-scatter(%slow), channel_id=6, replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
}
"""  # noqa: E501
COLLECTIVES = {
    ("all-gather", 800, 4, 1),  # of a chain, once; bf16
    ("all-reduce", 36, 4, 5),  # of a tuple, in the loop, groups as [number, size]
    ("all-gather", 256, 8, 1),  # asynchronous: the result, not the operand
    ("collective-permute", 48, 2, 1),
    ("all-reduce", 64, 8, 1),
    ("reduce-scatter", 64, 8, 1),  # what is reduced, not the part that is left
}


def without_traffic(monkeypatch):
    """The literal module is no whole program: what it moves is not asked."""
    monkeypatch.setattr(hlo, "_traffic", lambda body: [])


def test_collectives_of_a_module(monkeypatch):
    without_traffic(monkeypatch)
    found = hlo.read(MODULE, 8).collectives
    assert {tuple(each) for each in found} == COLLECTIVES and len(found) == len(COLLECTIVES)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('frontend_attributes={chain_id="7"}', "x"),  # every fusion that advances a collective counted
        ("-done(", "("),  # the ends of asynchronous ones counted as well
        ("constant(5)", "constant(4)"),
        ("direction=LT", "direction=GT"),
        ("S(1)}, f32[]", "S(1)}, f32[9]"),  # the last of a tuple
        ("bf16[4,100]", "f32[4,100]"),
        ("[2,4]<=[8]", "[4,2]<=[8]"),
        ("{{0,1,2,3},{4,5,6,7}}", "{{0,1},{2,3},{4,5},{6,7}}"),
    ],
)
def test_another_module_has_other_collectives(before, after, monkeypatch):
    """Power: each change of the text changes what is read."""
    without_traffic(monkeypatch)
    changed = MODULE.replace(before, after)
    found = hlo.read(changed, 8).collectives
    assert changed != MODULE
    assert {tuple(each) for each in found} != COLLECTIVES or len(found) != len(COLLECTIVES)


def compiled(function, *arguments):
    program = jax.jit(function).lower(*arguments).compile()
    return hlo.read(program.as_text()), program.cost_analysis()


def test_a_dilated_strided_convolution_counts_as_in_xla():
    """Only pixels that exist count: not those of the padding, nor those between dilated ones."""

    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (2, 2), [(1, 2), (2, 1)], lhs_dilation=(2, 1), rhs_dilation=(1, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    program, of_xla = compiled(convolve, jnp.ones((3, 8, 9, 4)), jnp.ones((3, 2, 4, 5)))
    assert program.flops == of_xla["flops"]
    assert program.memory_bytes == of_xla["bytes accessed"]  # on a CPU nothing is in a memory of its own
    everywhere = 2 * 3 * (8 * 5) * (3 * 2) * 4 * 5  # images, output pixels, kernel, channels
    assert program.flops < everywhere / 3


def test_a_batched_product_counts_its_batch():
    program, of_xla = compiled(jnp.matmul, jnp.ones((6, 8, 16)), jnp.ones((6, 16, 4)))
    assert program.flops == 2 * 6 * 8 * 16 * 4 == of_xla["flops"]


def test_smallest_length_of_a_product():
    """Rows, columns or contracted length of one product of the batch, whichever is smallest."""
    for (rows, inner, columns), batch in (((4, 32, 16), ()), ((32, 4, 16), (6,)), ((32, 16, 4), (6,))):
        program, _ = compiled(jnp.matmul, jnp.ones((*batch, rows, inner)), jnp.ones((*batch, inner, columns)))
        products = [product for work in program.work for product in work.products]
        assert products == [(program.flops, 4)]
        assert sum(work.times * work.bytes for work in program.work) == program.memory_bytes


def test_a_product_by_a_library_counts():
    """On a GPU a product is a call of cuBLAS, whose result comes with a workspace."""
    text = """ENTRY %main (x: f32[64,32], w: f32[32,16]) -> f32[64,16] {
  %x = f32[64,32]{1,0} parameter(0)
  %w = f32[32,16]{1,0} parameter(1)
  %gemm = (f32[64,16]{1,0}, s8[4194304]{0}) custom-call(%x, %w), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"alpha_real":1,"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %y = f32[64,16]{1,0} get-tuple-element(%gemm), index=0
}
"""  # noqa: E501
    program = hlo.read(text)
    assert program.flops == 2 * 64 * 32 * 16 and program.work[0].products == ((program.flops, 16),)
    assert hlo.read(text.replace('["1"]', '["0"]')).flops == 2 * 64 * 16 * 64


def test_loops_count_as_often_as_they_turn_and_in_xla_once():
    """Why this module exists: XLA's own count has the body of a loop once, 15 turns or not."""

    def nested(x, w):
        def inner(carry, _):
            return jnp.tanh(carry @ w), None

        return lax.fori_loop(0, 5, lambda _, carry: lax.scan(inner, carry, None, length=3)[0] + 1, x)

    program, of_xla = compiled(nested, jnp.ones((16, 16)), jnp.ones((16, 16)))
    assert program.flops == 15 * program.flops_once == 15 * 2 * 16**3
    assert program.flops_once <= of_xla["flops"] < 2 * program.flops_once
    assert not program.unknown_loops


def test_a_loop_without_a_count_turns_as_often_as_one_says():
    """The constant of its condition is a float: no count."""

    def until(x, w):
        return lax.while_loop(lambda carry: carry[0, 0] < 9.0, lambda carry: jnp.tanh(carry @ w), x)

    text = jax.jit(until).lower(jnp.ones((8, 8)), jnp.ones((8, 8))).compile().as_text()
    for turns in (0, 3):
        program = hlo.read(text, unknown_turns=turns)
        assert program.flops == turns * 2 * 8**3 and len(program.unknown_loops) == 1


def test_memory_of_the_chip_itself_is_free():
    """An array with `S(1)` in its layout is not in the main memory; a copy out of it is written there only."""
    text = """ENTRY %main (x: f32[256]) -> f32[256] {
  %x = f32[256]{0:T(128)S(1)} parameter(0)
  %y = f32[256]{0:T(128)S(1)} negate(%x)
  %z = (f32[256]{0:T(128)}, f32[256]{0:T(128)S(1)}, u32[]{:S(2)}) copy-start(%y)
  ROOT %w = f32[256]{0:T(128)} copy-done(%z)
}
"""
    assert hlo.read(text).memory_bytes == 1024
    assert hlo.read(text.replace("S(1)", "")).memory_bytes == 4096


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        hlo.read("module @jit_step {}")
