"""What stored types do to weights, against a plain cast of every entry and against torch's own AdamW."""

import json
from dataclasses import asdict
from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import adaln
from adaln.analysis.audit import audit
from adaln.analysis.precision import STORED_TYPES, UPDATES, precision_rows
from adaln.conditioning import find_sites
from adaln.models import MODELS, build
from adaln.registry import UnknownName
from adaln.rng import generator
from adaln.tensor_files import TensorFile, save_tensors
from helpers.networks import DIGITS

MATRIX, HEAD = "blocks.0.adaLN_modulation.1.weight", "final_layer.linear.weight"
FLOATS = arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_subnormal=True))


def rows_of(values, *types):
    """The values as a network's head, which any tensor may be."""
    chosen = {name: STORED_TYPES[name] for name in types or STORED_TYPES}
    return precision_rows({HEAD: values}, [], chosen, [HEAD])


def by_hand(values, name):
    """Every field, entry by entry."""
    dtype = STORED_TYPES[name]
    w = values.float().flatten()
    w = w[w.isfinite()]
    n, q = len(w), w.to(dtype).float()
    zeroed = sum(a != 0 and b == 0 for a, b in zip(w.tolist(), q.tolist(), strict=True))
    within = [(a, b) for a, b in zip(w.tolist(), q.tolist(), strict=True) if abs(a) <= torch.finfo(dtype).max]
    error, square = sum((a - b) ** 2 for a, b in within), sum(a**2 for a, _ in within)
    lost = [sum(int(((q + u).to(dtype).float() == q).sum()) for u in (size, -size)) / (2 * n or 1) for size in UPDATES]
    return {
        "type": name,
        "role": "head",
        "entries": n,
        "zeroed_share": zeroed / (sum(a != 0 for a in w.tolist()) or 1),
        "changed_share": sum(a != b for a, b in zip(w.tolist(), q.tolist(), strict=True)) / (n or 1),
        "distinct_values": len(set(q.tolist())),
        "relative_error": pytest.approx(sqrt(error / square) if square else 0.0, rel=1e-6),
        "beyond_range": n - len(within),
        "lost_updates": tuple(lost),
    }


@pytest.mark.slow
@given(FLOATS)
def test_every_number_is_that_of_a_plain_cast_of_every_entry(array):
    values = torch.from_numpy(array)
    for row in rows_of(values):
        assert asdict(row) == by_hand(values, row.type)


@pytest.mark.parametrize("name", STORED_TYPES)
@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_trained_like_values_of_any_type_are_counted_like_a_plain_cast(name, source):
    sizes = torch.logspace(-9, 6, 400)
    values = (torch.randn(50, 400, generator=generator("precision")) * sizes).to(source)
    (row,) = rows_of(values, name)
    assert asdict(row) == by_hand(values, name)


def test_subnormals_and_zeros_of_both_signs_are_told_apart_from_what_becomes_zero():
    smallest = 2.0**-24  # of float16
    values = torch.tensor([0.0, -0.0, smallest, -smallest, 0.5 * smallest, 0.51 * smallest, 1e-30, 1.0])
    (row,) = rows_of(values, "fp16")
    assert row.zeroed_share == 2 / 6  # half the smallest is a tie, to even
    assert row.distinct_values == 4  # 0, +-smallest, 1


def test_what_is_beyond_the_range_is_counted_and_named():
    weights = tensors()
    weights[MATRIX][0, :3] = torch.tensor([7e4, -1e9, 65504.0])
    found = audit(weights, precision=["fp16", "bf16"])
    assert {row.type: row.beyond_range for row in found.precision if row.role == "shift"} == {"fp16": 2, "bf16": 0}
    assert "do not store shift in fp16: entries lie beyond its largest number" in texts(found)
    (table,) = (block for block in found.blocks() if getattr(block, "title", "") == "What a stored type loses")
    assert any("2 beyond its range" in str(cell) for row in table.rows for cell in row)


def test_what_is_not_finite_is_left_out():
    (row,) = rows_of(torch.tensor([nan, inf, -inf, 1.0]), "bf16")
    assert (row.entries, row.beyond_range, row.changed_share) == (1, 0, 0.0)
    (row,) = rows_of(torch.tensor([nan]), "bf16")
    assert row.entries == 0
    json.dumps(asdict(row), allow_nan=False)


def test_weights_that_were_stored_in_a_type_are_not_changed_by_it():
    values = torch.randn(1000, generator=generator("precision", 1)).bfloat16()
    bf16, fp16, fp8, _ = rows_of(values)
    assert (bf16.changed_share, bf16.relative_error) == (0, 0)
    assert fp16.changed_share < 0.1 < 0.9 < fp8.changed_share  # only the smallest have too few digits in float16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_adamw_loses_as_many_first_updates_as_is_said(dtype):
    """Its own arithmetic in the type blurs the size of an update by less than the distance to a power of two."""
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    rng = generator("precision", "adamw")
    values = torch.randn(100_000, generator=rng) * torch.logspace(-4, 1, 100_000)
    stored = torch.nn.Parameter(values.to(dtype))
    before = stored.detach().clone()
    stored.grad = torch.randn(values.shape, generator=rng).sign().to(dtype)
    torch.optim.AdamW([stored], lr=1e-4, weight_decay=0).step()
    lost = (stored == before).double().mean().item()
    (row,) = rows_of(values, name)
    assert 0.1 < lost < 0.95
    assert row.lost_updates[0] == pytest.approx(lost, abs=2e-3)


def test_bfloat16_loses_updates_of_1e_4_from_a_32nd_on():
    (below,) = rows_of(torch.tensor([1 / 32 - 1e-3] * 4), "bf16")
    (above,) = rows_of(torch.tensor([1 / 32 + 1e-3] * 4), "bf16")
    assert (below.lost_updates[0], above.lost_updates[0]) == (0, 1)


# In the audit


def tensors(scheme="adaln-gaussian"):
    model = build(MODELS["tiny"], DIGITS, generator("precision", "net"))
    adaln.initialise(model, scheme)
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def texts(found):
    return [finding.text for finding in found.findings if finding.kind == "stored type"]


def test_the_rows_of_an_audit_are_the_roles_over_all_blocks_and_the_head():
    found = audit(tensors(), precision=["bf16", "fp8"])
    roles = [row.role for row in found.precision if row.type == "fp8"]
    of_blocks = [f"{role}{of}" for role in ("gate", "scale", "shift") for of in ("", " bias")]
    last = [f"final {role}{of}" for role in ("scale", "shift") for of in ("", " bias")]
    assert roles == [*of_blocks, *last, "head", "head bias"]
    assert {row.type: row.entries for row in found.precision if row.role == "gate"} == {
        "bf16": 4 * 2 * 64 * 64,
        "fp8": 4 * 2 * 64 * 64,
    }


def test_the_gates_of_a_network_are_counted_together():
    weights = tensors()
    gates = torch.cat([weights[site.weight][site.rows] for site in find_sites(weights) if site.role.name == "GATE"])
    row = next(row for row in audit(weights, precision=["fp8"]).precision if row.role == "gate")
    assert asdict(row) == {**by_hand(gates, "fp8"), "role": "gate"}


def test_what_a_type_does_is_said_with_the_answer_first():
    assert texts(audit(tensors())) == []
    (fine,) = texts(audit(tensors(), precision=["fp16"]))
    assert fine.startswith("fp16 serves every role")
    store, train = texts(audit(tensors(), precision=["fp8"]))  # a std of 1e-3 is below half of fp8's smallest number
    assert store.startswith("do not store gate, scale, shift in fp8: up to 67% (")
    assert train.startswith("do not train any role stored in fp8, keep float32 weights: up to 100% (")


def test_a_file_is_read_like_the_tensors_and_a_network_like_its_parameters(tmp_path):
    weights = tensors()
    save_tensors(tmp_path / "net.safetensors", weights)
    model = build(MODELS["tiny"], DIGITS, generator("precision", "net"))
    model.load_state_dict(weights, strict=False)
    types = ["bf16", "fp8_e5m2"]
    in_memory = audit(weights, precision=types).precision
    assert audit(TensorFile(tmp_path / "net.safetensors"), precision=types).precision == in_memory
    assert audit(model, precision=types).precision == in_memory


def test_a_table_is_a_role_of_its_own():
    model = build(MODELS["tiny-shared"], DIGITS, generator("precision", "net"))
    roles = {row.role for row in audit(dict(model.named_parameters()), precision=["bf16"]).precision}
    assert {"gate", "gate bias", "gate table"} <= roles


def test_an_unknown_type_is_one_line_with_the_nearest_before_anything_is_read():
    with pytest.raises(
        UnknownName, match=r"unknown stored type 'bfloat16' \(nearest: 'bf16'\); known: bf16, fp16, fp8"
    ):
        audit("no such file", precision=["bfloat16"])
