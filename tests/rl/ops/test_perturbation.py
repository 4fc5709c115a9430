"""Facts of noise that follows from a key, and of a few directions through a dict of tensors."""

import pytest
import torch

from engine.errors import InputError
from rl.ops.perturbation import Space, Subspace, noise

LIKE = {"a": torch.zeros(40, 50), "b": torch.zeros(2000), "c": torch.zeros(2000)}


def test_noise_is_the_same_for_the_same_key_alone():
    first, again, other = noise(LIKE, 0, 1, 2), noise(LIKE, 0, 1, 2), noise(LIKE, 0, 2, 1)
    assert all(torch.equal(first[name], again[name]) for name in LIKE)
    assert not any(torch.equal(first[name], other[name]) for name in LIKE)
    assert torch.equal(noise({"c": LIKE["c"]}, 0, 1, 2)["c"], first["c"])


def test_every_tensor_has_standard_normal_noise_of_its_own():
    drawn = torch.stack([tensor.flatten() for tensor in noise(LIKE, "x").values()])
    assert torch.corrcoef(drawn).sub(torch.eye(3)).abs().max() < 5 / 2000**0.5
    assert float(drawn.mean()) == pytest.approx(0, abs=5 / 6000**0.5)
    assert float(drawn.var()) == pytest.approx(1, abs=5 * (2 / 6000) ** 0.5)


def test_noise_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    noise(LIKE, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_space_gives_values_back_as_they_were_and_keeps_half_precision_wide():
    value = {"w": torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), "b": torch.tensor(3.0, dtype=torch.float64)}
    space = Space(value)
    packed = space.pack(value)
    assert [packed["w"].dtype, packed["b"].dtype] == [torch.float32, torch.float64]
    back = space.unpack(packed)
    assert all(torch.equal(back[name], value[name]) and back[name].dtype == value[name].dtype for name in value)
    assert torch.equal(Space([1.0, 2.0]).unpack(Space([1.0, 2.0]).pack([1.0, 2.0])), torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize(
    "like, said",
    [([], "without an element"), ({}, "without an element"), ([1, 2], "int64"), ([float("nan")], "NaN"),
     ({"w": torch.tensor([float("inf")])}, "'w'"), ("text", "no tensor")],
)  # fmt: skip
def test_what_is_no_space(like, said):
    with pytest.raises(InputError, match=said):
        Space(like)


def test_a_subspace_is_orthonormal_over_all_tensors_and_begins_at_its_origin():
    origin = {"down": torch.randn(8, 4), "up": torch.randn(6, dtype=torch.float32)}
    space = Subspace(origin, dims=5, seed=1)
    torch.testing.assert_close(space.basis @ space.basis.T, torch.eye(5), atol=1e-5, rtol=0)
    assert all(torch.equal(space.at(space.zeros())[name], origin[name]) for name in origin)
    moved = space.at(torch.tensor([0.0, 3.0, 0.0, 0.0, 4.0]))
    length = sum(float((moved[name] - origin[name]).square().sum()) for name in origin) ** 0.5
    assert length == pytest.approx(5.0, abs=1e-4)
    assert torch.equal(Subspace(origin, dims=5, seed=1).basis, space.basis)
    assert not torch.allclose(Subspace(origin, dims=5, seed=2).basis, space.basis)


def test_a_subspace_that_cannot_be_and_coefficients_of_another():
    with pytest.raises(InputError, match="1 to 4"):
        Subspace(torch.zeros(4), dims=5)
    with pytest.raises(InputError, match=r"\(3,\)"):
        Subspace(torch.zeros(4), dims=3).at([1.0, 2.0])
