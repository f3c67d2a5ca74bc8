"""Torch modules as networks: which convolutions are found, what is captured, and what replacing them keeps."""

from __future__ import annotations

import copy
import io
import pickle
import re
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import reference_bound, reference_sequence
from torch import nn

import tensorconv as tc
from tensorconv.errors import ModelError
from tensorconv.models.comparison import compare
from tensorconv.models.network import Network
from tensorconv.models.torch_network import TorchNetwork

FLOAT32, FLOAT64 = 2.0**-24, 2.0**-53


class Residual(nn.Module):
    """A small network of everything that must be kept: batch norm, in-place activations, a block used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU(inplace=True))
        self.mirror = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.unused = nn.Conv2d(3, 3, 1)
        self.register_buffer("steps", torch.zeros(2))

    def forward(self, image: torch.Tensor, gain: float = 1.0) -> torch.Tensor:
        x = self.norm(self.stem(image)).relu_()
        x = self.block(x) + self.block(x * gain)
        x = self.drop(self.up(self.mirror(x).relu_()))
        return self.head(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def residual() -> Residual:
    module = Residual()
    module.stem.weight.requires_grad_(False)
    return module


def state(module: nn.Module) -> dict[str, Any]:
    """Return everything of a module that running or replacing must not change."""
    return {
        "tensors": {key: tensor.clone() for key, tensor in module.state_dict().items()},
        "modes": [one.training for one in module.modules()],
        "trained": [(name, one.requires_grad) for name, one in module.named_parameters()],
        "hooks": [(len(one._forward_hooks), len(one._forward_pre_hooks)) for one in module.modules()],
        "kinds": [type(one) for one in module.modules()],
        "random": torch.random.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
    }


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert {k: v for k, v in one.items() if k != "tensors"} == {k: v for k, v in other.items() if k != "tensors"}
    assert list(one["tensors"]) == list(other["tensors"])
    assert all(torch.equal(one["tensors"][key], other["tensors"][key]) for key in one["tensors"])


def test_sites_are_found_in_the_order_of_their_first_use(residual: Residual) -> None:
    network: Network = TorchNetwork(residual, input_size=8, linear=True)
    assert [(site.name, site.input_sizes, site.linear) for site in network.sites] == [
        ("stem", ((8, 8),), False),
        ("block.0", ((4, 4), (4, 4)), False),
        ("mirror", ((6, 6),), False),  # padded already
        ("up", ((4, 4),), False),
        ("head", ((1,),), True),
    ]
    (skipped,) = network.skipped
    assert (skipped.name, skipped.reason) == ("unused", "is not called when the network runs on the example")
    without = TorchNetwork(residual, input_size=8)
    assert [site.name for site in without.sites] == ["stem", "block.0", "mirror", "up"]


def test_layers_are_the_modules(residual: Residual) -> None:
    sites = {site.name: site.layer for site in TorchNetwork(residual, input_size=8, linear=True).sites}
    stem = residual.stem
    assert np.array_equal(sites["stem"].kernel, stem.weight.detach().numpy())
    assert np.array_equal(sites["stem"].bias, stem.bias.detach().numpy())  # type: ignore[arg-type, union-attr]
    assert str(sites["stem"].geometry) == "stride 2, padding 1"
    assert str(sites["mirror"].geometry) == "stride 1, padding 0"
    assert sites["block.0"].bias is None
    assert sites["up"].geometry == tc.ConvGeometry.of(2, stride=2, padding=1, output_padding=1, transposed=True)
    assert sites["head"].kernel.shape == (5, 4, 1)


def test_running_and_looking_change_nothing(residual: Residual) -> None:
    residual.block.eval()  # a part that is not trained stays so
    before = state(residual)
    network = TorchNetwork(residual, input_size=8, linear=True)
    batch = network.batches(np.ones((2, 3, 8, 8), "float32"))[0]
    network.run(batch)
    network.capture([site.name for site in network.sites], batch)
    network.replaced({"stem": tc.ConvSequence([network.sites[0].layer])})
    assert np.array_equal(batch["image"], np.ones((2, 3, 8, 8)))
    assert_same_state(before, state(residual))


def test_a_failure_changes_nothing_either(residual: Residual) -> None:
    before = state(residual)
    network = TorchNetwork(residual, input_size=8)
    with pytest.raises(ModelError, match="forward of Residual fails on inputs of shape"):
        network.run({"image": np.ones((1, 4, 8, 8), "float32")})
    with pytest.raises(ModelError):
        network.capture(["stem"], {"image": np.ones((1, 4, 8, 8), "float32")})
    assert_same_state(before, state(residual))


def test_outputs_are_those_of_evaluation_mode(residual: Residual) -> None:
    network = TorchNetwork(residual, input_size=8)
    got = network.run(network.example)["output"]
    residual.eval()
    with torch.no_grad():
        expected = residual(torch.from_numpy(network.example["image"]))
    assert np.array_equal(got, expected.numpy())


def test_random_numbers_of_a_module_repeat() -> None:
    class Noisy(nn.Conv1d):
        pass

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> Any:
            return self.conv(x) + torch.randn(3)

    network = TorchNetwork(Net(), input_size=3)
    assert np.array_equal(network.run(network.example)["output"], network.run(network.example)["output"])


def test_captured_are_inputs_and_responses_of_the_layer(residual: Residual) -> None:
    network = TorchNetwork(residual, input_size=8, linear=True)
    batch = {"image": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype("float32")}
    captured = network.capture([site.name for site in network.sites], batch)
    for site in network.sites:
        assert len(captured[site.name]) == len(site.input_sizes)
        for x, y in captured[site.name]:
            one = tc.ConvSequence([site.layer])
            assert x.shape[2:] == site.input_sizes[0]
            # in-place activations came after the call, and must not show
            assert np.all(np.abs(y - reference_sequence(x, one)) <= reference_bound(x, one, [FLOAT32, FLOAT64]))


def test_only_the_sites_asked_for_are_captured(residual: Residual) -> None:
    network = TorchNetwork(residual, input_size=8)
    assert list(network.capture(["up", "stem"], network.example)) == ["up", "stem"]
    message = "the network has no site 'head'; it has stem, block.0, mirror, up"
    for call in (lambda: network.capture(["head"], network.example), lambda: network.replaced({"head": None})):  # type: ignore[dict-item]
        with pytest.raises(ModelError, match=re.escape(message)):
            call()


def exact(layer: tc.ConvLayer) -> tc.ConvSequence:
    """Return two layers that are one: as many channels between as the kernel has rank, bias at the end."""
    return tc.svd(layer, rank=tc.ranks.energy(1.0)).sequence


def test_exact_replacements_keep_the_outputs(residual: Residual) -> None:
    residual.double()  # rounding far below any mistake
    network = TorchNetwork(residual, input_size=8, linear=True)
    sequences = {site.name: exact(site.layer) for site in network.sites}
    assert all(len(sequence) == 2 for sequence in sequences.values())
    new = network.replaced(sequences)
    batch = network.batches(np.random.default_rng(2).standard_normal((3, 3, 8, 8)))[0]
    before, after = network.run(batch)["output"], new.run(batch)["output"]
    depth = len(sequences) * 2
    widest = max(site.layer.kernel[0].size for site in network.sites)
    assert not np.array_equal(before, after)
    # every layer adds at most 8 u of the factorization and n u of its sums, relative to values that stay of one size
    assert np.max(np.abs(before - after)) <= 100 * depth * widest * FLOAT64 * np.max(np.abs(before))


def test_what_is_not_replaced_stays_to_the_bit(residual: Residual) -> None:
    network = TorchNetwork(residual, input_size=8)
    new = network.replaced({"stem": exact(network.sites[0].layer)}, record='{"a": 1}')
    old_state, new_state = residual.state_dict(), new.model.state_dict()
    for key, moved in new.key_map.items():
        if moved == (key,):
            assert torch.equal(old_state[key], new_state[key])
    assert {key for moved in new.key_map.values() for key in moved} == set(new_state)
    assert list(new.key_map) == list(old_state)
    assert new.key_map["stem.weight"] == ("stem.0.weight", "stem.1.weight")
    assert new.key_map["stem.bias"] == ("stem.1.bias",)
    assert new.model.tensorconv_record == '{"a": 1}'
    assert not hasattr(residual, "tensorconv_record")
    assert isinstance(new.model, Residual)
    assert new.model is not residual
    assert network.key_map == {key: (key,) for key in old_state}


def test_training_continues_where_it_was(residual: Residual) -> None:
    residual.block.eval()
    network = TorchNetwork(residual, input_size=8)
    new = network.replaced({site.name: exact(site.layer) for site in network.sites}).model
    trained = {name: one.requires_grad for name, one in new.named_parameters()}
    assert not trained["stem.0.weight"]
    assert not trained["stem.1.weight"]
    assert trained["stem.1.bias"]
    assert trained["up.0.weight"]
    assert [new.training, new.stem.training, new.block.training, new.block[0].training] == [True, True, False, False]  # type: ignore[union-attr, index]
    new(torch.ones(2, 3, 8, 8)).sum().backward()
    assert all((one.grad is not None) == trained[name] for name, one in new.named_parameters() if "unused" not in name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_types_are_kept(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.ReLU()).to(dtype)
    network = TorchNetwork(module, input_size=5)
    (site,) = network.sites
    assert str(site.layer.dtype) == str(dtype).removeprefix("torch.")
    new = network.replaced({"0": tc.svd(site.layer, rank=2).sequence})
    assert {one.dtype for one in new.model.parameters()} == {dtype}
    assert new.run(new.example)["output"].shape == (1, 4, 5)
    ((x, y),) = new.capture(["0.0"], new.example)["0.0"]
    assert x.dtype == y.dtype == (np.float32 if dtype == torch.bfloat16 else site.layer.dtype)


GEOMETRIES: dict[str, Callable[[], nn.Module]] = {
    "1d dilation": lambda: nn.Conv1d(4, 6, 3, dilation=2, padding=2),
    "2d groups": lambda: nn.Conv2d(4, 8, 3, groups=2, stride=(1, 2)),
    "3d": lambda: nn.Conv3d(4, 2, (1, 2, 3), padding=(0, 1, 1)),
    "same": lambda: nn.Conv2d(4, 4, (4, 3), padding="same"),
    "valid": lambda: nn.Conv2d(4, 4, 3, padding="valid"),
    "replicate": lambda: nn.Conv1d(4, 4, 3, padding=2, padding_mode="replicate"),
    "circular": lambda: nn.Conv2d(4, 4, (3, 2), padding=(2, 1), padding_mode="circular"),
    "reflect same": lambda: nn.Conv2d(4, 4, (4, 3), padding="same", padding_mode="reflect"),
    "reflect stride": lambda: nn.Conv3d(4, 4, 3, padding=1, stride=2, padding_mode="reflect"),
    "transposed 1d": lambda: nn.ConvTranspose1d(4, 6, 4, stride=3, padding=1, output_padding=2),
    "transposed groups": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2),
    "transposed 3d": lambda: nn.ConvTranspose3d(4, 2, 2, bias=False),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("case", GEOMETRIES)
@pytest.mark.parametrize("whole", [True, False])
def test_every_geometry_is_replaced_exactly(case: str, whole: bool) -> None:
    torch.manual_seed(0)
    one = GEOMETRIES[case]().double()
    module, name = (one, "module") if whole else (nn.Sequential(one), "0")
    network = TorchNetwork(module, input_size=7)
    (site,) = network.sites
    assert site.name == name
    ((x, y),) = network.capture([name], network.example)[name]
    kept = tc.ConvSequence([site.layer])
    bound = reference_bound(x, kept, [FLOAT64, FLOAT64])
    assert np.all(np.abs(y - reference_sequence(x, kept)) <= bound)
    new = network.replaced({name: tc.ConvSequence([site.layer])})
    assert np.array_equal(new.run(network.example)["output"], y)
    new = network.replaced({name: exact(site.layer)})
    # full rank: the kernel within 8 u of its norm, and as many more roundings as channels lie between
    assert np.all(np.abs(new.run(network.example)["output"] - y) <= 64 * np.max(bound))
    assert {key for moved in new.key_map.values() for key in moved} == set(new.model.state_dict())


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 5, 6), (2, 3, 4, 6)])
def test_fully_connected_layers_of_any_shape(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True)).double()
    x = np.random.default_rng(0).standard_normal(shape)
    network = TorchNetwork(module, x, linear=True)
    (site,) = network.sites
    ((given, got),) = network.capture(["0"], network.example)["0"]
    assert given.shape[2:] == site.input_sizes[0]
    one = tc.ConvSequence([site.layer])
    assert np.all(np.abs(got - reference_sequence(given, one)) <= reference_bound(given, one, [FLOAT64, FLOAT64]))
    new = network.replaced({"0": exact(site.layer)})
    assert [type(m) for m in new.model[0]] == [nn.Linear, nn.Linear]  # type: ignore[index]
    before, after = network.run(network.example)["output"], new.run(network.example)["output"]
    assert before.shape == after.shape
    assert np.max(np.abs(before - after)) <= 64 * np.max(reference_bound(given, one, [FLOAT64, FLOAT64]))


def test_unbatched_data_are_captured_as_a_batch_of_one() -> None:
    network = TorchNetwork(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), np.ones((2, 5, 6), "float32"))
    ((x, y),) = network.capture(["module"], network.example)["module"]
    assert (x.shape, y.shape) == ((1, 2, 7, 8), (1, 3, 5, 6))
    assert network.sites[0].input_sizes == ((7, 8),)


def test_a_module_under_two_names_is_one_site() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(2, 2, 3, padding=1)
            self.second = nn.Sequential(self.first)

        def forward(self, x: torch.Tensor) -> Any:
            return self.second(self.first(x))

    network = TorchNetwork(Twice(), input_size=5)
    (site,) = network.sites
    assert (site.name, site.input_sizes) == ("first", ((5,), (5,)))
    new = network.replaced({"first": exact(site.layer)})
    assert new.model.first is new.model.second[0]  # type: ignore[index]
    assert new.key_map["second.0.weight"] == ("second.0.0.weight", "second.0.1.weight")
    assert len(new.capture(["first.0"], new.example)["first.0"]) == 2


def tied(**changed: Any) -> nn.Module:
    """Return two modules with one weight and one bias."""
    one, other = nn.Conv1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, **({"padding": 1} | changed))
    other.weight, other.bias = one.weight, one.bias
    return nn.Sequential(one, other)


def test_modules_that_share_everything_are_one_site() -> None:
    network = TorchNetwork(tied(), input_size=5)
    (site,) = network.sites
    assert site.input_sizes == ((5,), (5,))
    new = network.replaced({"0": exact(site.layer)}).model
    assert new[0] is new[1]  # type: ignore[index]


def test_modules_that_share_a_weight_alone_are_two() -> None:
    network = TorchNetwork(tied(dilation=2), input_size=7)
    assert [site.name for site in network.sites] == ["0", "1"]
    new = network.replaced({"0": exact(network.sites[0].layer)}).model
    assert torch.equal(new[1].weight, network.model[1].weight)  # type: ignore[index]


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_norms_are_read_as_they_are_in_evaluation_mode(norm: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(norm(nn.Conv2d(3, 4, 3).double()))
    before = state(module)
    network = TorchNetwork(module, input_size=6)
    (site,) = network.sites
    assert_same_state(before, state(module))
    assert nn.utils.parametrize.is_parametrized(module[0])
    ((x, y),) = network.capture(["0"], network.example)["0"]
    one = tc.ConvSequence([site.layer])
    assert np.all(np.abs(y - reference_sequence(x, one)) <= reference_bound(x, one, [FLOAT64, FLOAT64]))
    before = network.run(network.example)["output"]
    new = network.replaced({"0": exact(site.layer)})
    assert np.array_equal(network.run(network.example)["output"], before)
    old_keys = [key for key in module.state_dict() if "parametrizations" in key]
    assert all(new.key_map[key] == ("0.0.weight", "0.1.weight") for key in old_keys)
    assert new.key_map["0.bias"] == ("0.1.bias",)
    pickle.dumps(new.model)  # what a parametrized module cannot


class OwnForward(nn.Conv1d):
    """A convolution that does more."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return super().forward(input) * 2


class OwnConvolution(nn.Conv1d):
    """A convolution by other means."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:  # noqa: A002
        return super()._conv_forward(input, weight * 2, bias)


class OwnWeight(nn.Conv1d):
    """A convolution whose weight is computed."""

    @property
    def weight(self) -> Any:
        return self._parameters["weight"] * 2  # type: ignore[operator]


class Renamed(nn.Conv1d):
    """A convolution of another name."""


class Doubled(nn.Module):
    """A parametrization that nobody knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def with_own_weight() -> nn.Module:
    module = nn.Conv1d(2, 2, 1)
    module.__class__ = OwnWeight
    return module


def with_hook() -> nn.Module:
    module = nn.Conv1d(2, 2, 1)
    module.register_forward_hook(lambda *given: given[2] * 2)
    return module


def with_old_norm() -> nn.Module:
    with pytest.warns(FutureWarning, match="deprecated"):
        return nn.utils.weight_norm(nn.Conv1d(2, 2, 1))


def with_not_a_number() -> nn.Module:
    module = nn.Conv1d(2, 2, 1)
    module.weight.data[0, 0, 0] = float("nan")
    return module


SKIPPED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "forward": (lambda: OwnForward(2, 2, 1), "OwnForward has its own forward, which may compute anything; use Conv1d"),
    "convolution": (lambda: OwnConvolution(2, 2, 1), "OwnConvolution has its own _conv_forward, which may compute"),
    "weight": (with_own_weight, "OwnWeight has its own weight or bias, which may compute anything"),
    "hook": (with_hook, "has forward hooks, or a forward of its own, which may change what it computes"),
    "old norm": (with_old_norm, "has forward hooks, or a forward of its own, which may change what it computes"),
    "nan": (with_not_a_number, "must hold finite numbers only, got NaN or inf"),
    "parametrized": (
        lambda: nn.utils.parametrize.register_parametrization(nn.Conv1d(2, 2, 1), "weight", Doubled()),
        "it is parametrized by Doubled, which may compute something else every time; call torch.nn.utils.parametrize."
        "remove_parametrizations first",
    ),
    "hooked linear": (
        lambda: nn.utils.parametrize.register_parametrization(nn.Linear(3, 3), "weight", Doubled()),
        "it is parametrized by Doubled",
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_what_is_not_certain_is_skipped_with_the_reason(case: str) -> None:
    make, reason = SKIPPED[case]
    odd = make()
    network = TorchNetwork(nn.Sequential(nn.Conv1d(2, 2, 1), odd), np.ones((1, 2, 3), "float32"), linear=True)
    assert [site.name for site in network.sites] == ["0"]
    (skipped,) = network.skipped
    assert skipped.name == "1"
    assert reason in skipped.reason


def test_a_subclass_that_computes_the_same_is_read() -> None:
    network = TorchNetwork(nn.Sequential(Renamed(2, 2, 1)), input_size=3)
    assert [site.name for site in network.sites] == ["0"]
    assert type(network.replaced({"0": exact(network.sites[0].layer)}).model[0]) is nn.Sequential  # type: ignore[index]


class Sized(nn.Module):
    """A transposed convolution that is told the size of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(2, 2, 3, stride=2)

    def forward(self, x: torch.Tensor, size: int | None = None) -> Any:
        return self.up(x, output_size=[8] if size is None else None)


def test_a_size_given_to_the_call_is_no_geometry() -> None:
    network = TorchNetwork(Sized(), np.ones((1, 2, 3), "float32"))
    assert network.sites == ()
    (skipped,) = network.skipped
    assert (skipped.name, skipped.reason) == ("up", "is called with more than its input, such as output_size")


class Functional(nn.Module):
    """A network that uses a convolution without calling it, or by another way."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv1d(2, 2, 1)
        self.listed = [self.conv]

    def forward(self, x: torch.Tensor) -> Any:
        if self.how == "list":
            return self.listed[0](x)
        if self.how == "weight":
            return self.conv(x) + self.conv.weight.sum()
        return nn.functional.conv1d(x, self.conv.weight)


@pytest.mark.parametrize("how", ["list", "weight"])
def test_what_is_used_otherwise_than_by_calling_it_is_skipped(how: str) -> None:
    module = nn.Sequential(nn.Conv1d(2, 2, 1), Functional(how), nn.Conv1d(2, 2, 1))
    network = TorchNetwork(module, input_size=3)
    assert [site.name for site in network.sites] == ["0", "2"]
    (skipped,) = network.skipped
    assert skipped.name == "1.conv"
    assert skipped.reason == "is used by the network otherwise than by a call under its name"


def test_what_is_not_called_is_skipped() -> None:
    network = TorchNetwork(Functional("function"), input_size=3)
    assert network.sites == ()
    assert network.skipped[0].reason == "is not called when the network runs on the example"


def test_layers_that_fused_code_reads_are_skipped() -> None:
    module = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3))
    network = TorchNetwork(module, np.ones((1, 4, 8), "float32"), linear=True)
    assert [site.name for site in network.sites] == ["1"]
    assert {one.name for one in network.skipped} == {"0.self_attn.out_proj", "0.linear1", "0.linear2"}
    new = network.replaced({"1": exact(network.sites[0].layer)})
    assert new.run(new.example)["output"].shape == (1, 4, 3)


Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Result:
    """What a module may return."""

    logits: Any
    loss: Any = None


class Given(nn.Module):
    """A network of two inputs that returns what it is told."""

    def __init__(self, wrap: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.conv, self.wrap = nn.Conv1d(2, 2, 1), wrap

    def forward(self, x: torch.Tensor, *, mask: torch.Tensor | None = None) -> Any:
        x = self.conv(x)
        return self.wrap(x, x if mask is None else x * mask)


@pytest.mark.parametrize(
    ("wrap", "names"),
    [
        (lambda a, _: a, ["output"]),
        (lambda a, b: (a, None, b), ["output.0", "output.2"]),
        (lambda a, b: [a, {"x": b}], ["output.0", "output.1.x"]),
        (lambda a, b: {"logits": a, 3: b}, ["output.logits", "output.3"]),
        (Pair, ["output.left", "output.right"]),
        (lambda a, _: Result(a), ["output.logits"]),
    ],
)
def test_outputs_have_names(wrap: Callable[[Any, Any], Any], names: list[str]) -> None:
    network = TorchNetwork(Given(wrap), input_size=3)
    assert list(network.run(network.example)) == names


def test_inputs_have_the_names_of_the_parameters() -> None:
    x, mask = np.ones((1, 2, 3), "float32"), torch.tensor([0, 1, 1])
    network = TorchNetwork(Given(lambda _, b: b), {"x": x, "mask": mask})
    assert list(network.example) == ["x", "mask"]
    assert np.all(network.run(network.example)["output"][..., 0] == 0)
    doubled = network.batches([{"mask": mask.numpy(), "x": x.astype("float64")}, {"x": 2 * x, "mask": mask}])
    assert [batch["mask"].dtype for batch in doubled] == [np.dtype("int64")] * 2
    assert network.run(doubled[0])["output"].dtype == np.float32

    class Starred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 2, 1)

        def forward(self, first: torch.Tensor, *rest: torch.Tensor) -> Any:
            return self.conv(first) * rest[0] - rest[1]

    network = TorchNetwork(Starred(), (x, 2 * x, 3 * x))
    assert list(network.example) == ["first", "rest.0", "rest.1"]
    with torch.no_grad():
        expected = network.model(*map(torch.tensor, (x, 2 * x, 3 * x)))
    assert np.array_equal(network.run(network.example)["output"], expected.numpy())
    assert list(network.replaced({}).example) == ["first", "rest.0", "rest.1"]


def test_an_example_is_made_of_a_size() -> None:
    example = TorchNetwork(nn.Conv2d(3, 2, 3), input_size=(4, 5)).example
    assert list(example) == ["input"]
    assert np.array_equal(example["input"], np.random.default_rng(0).standard_normal((1, 3, 4, 5)).astype(np.float32))
    assert TorchNetwork(nn.Sequential(nn.Linear(7, 2)), linear=True).example["input"].shape == (1, 7)


def test_saved_modules_need_nothing_of_this_library(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU(), nn.Conv2d(8, 2, 3))
    network = TorchNetwork(module, input_size=6)
    new = network.replaced({site.name: exact(site.layer) for site in network.sites}, record="{}")
    torch.save(new.model, tmp_path / "module.pt")
    np.save(tmp_path / "x.npy", new.example["input"])
    source = (
        "import sys, numpy as np, torch\n"
        "module = torch.load(sys.argv[1] + '/module.pt', weights_only=False).eval()\n"
        "assert not any(name.startswith('tensorconv') for name in sys.modules) and module.tensorconv_record == '{}'\n"
        "with torch.no_grad(): np.save(sys.argv[1] + '/y.npy', module(torch.tensor(np.load(sys.argv[1] + '/x.npy'))))\n"
    )
    subprocess.run([sys.executable, "-c", source, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), new.run(new.example)["output"])
    fresh = copy.deepcopy(new.model)
    for parameter in fresh.parameters():
        parameter.data.zero_()
    file = io.BytesIO()
    torch.save(new.model.state_dict(), file)
    assert new.n_bytes == file.tell()
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    assert np.array_equal(TorchNetwork(fresh, new.example).run(new.example)["output"], new.run(new.example)["output"])


def test_a_weight_that_is_a_buffer_is_frozen() -> None:
    module = nn.Conv1d(2, 2, 1)
    weight = module.weight.detach()
    del module.weight
    module.register_buffer("weight", weight)
    network = TorchNetwork(nn.Sequential(module), ONES)
    new = network.replaced({"0": exact(network.sites[0].layer)})
    assert [one.requires_grad for one in new.model.parameters()] == [False, False, True]
    assert new.key_map["0.weight"] == ("0.0.weight", "0.1.weight")


def test_a_replaced_network_can_be_replaced_again(residual: Residual) -> None:
    network = TorchNetwork(residual, input_size=8)
    new = network.replaced({"mirror": exact(network.sites[2].layer)})
    assert "mirror.1" in [site.name for site in new.sites]
    (layer,) = (site.layer for site in new.sites if site.name == "mirror.1")
    again = new.replaced({"mirror.1": tc.ConvSequence([layer])})
    assert np.array_equal(again.run(network.example)["output"], new.run(network.example)["output"])
    assert again.key_map["mirror.1.weight"] == ("mirror.1.0.weight",)


def test_networks_are_compared() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1))
    network = TorchNetwork(module, input_size=24)
    small = network.replaced({"2": tc.svd(network.sites[1].layer, rank=4).sequence})
    before = state(module)
    result = compare(
        network, small, network.example["input"], evaluate=lambda run: run(network.example)["output"].max()
    )
    assert_same_state(before, state(module))
    assert 0 < result.drift["output"] < 1
    assert result.memory is None
    assert result.n_bytes == (network.n_bytes, small.n_bytes)
    assert compare(network, network, network.example["input"], n_pairs=7).largest_drift == 0


class Uncopyable(nn.Conv1d):
    """A module that refuses to be copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("no copies")


TWO = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Linear(3, 3))
ONES = np.ones((1, 2, 3), "float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TorchNetwork(3), "module must be a torch.nn.Module, got int"),  # type: ignore[arg-type]
        (
            lambda: TorchNetwork(nn.Sequential(nn.LazyConv1d(2, 1)), ONES),
            "parameter '0.weight' of the module has no shape yet; call the module once on data",
        ),
        (
            lambda: TorchNetwork(nn.Conv1d(2, 2, 1)),
            "the size of the network's input is not known; give input_size=, or example=, a tensor, a tuple of tensors "
            "in the order of forward's parameters, or a dict of them by name",
        ),
        (lambda: TorchNetwork(nn.ReLU(), input_size=3), "the network has no convolution to make an example for; give"),
        (
            lambda: TorchNetwork(nn.Conv1d(2, 2, 1), input_size=(3, 3)),
            "input_size must have one entry per spatial axis, 1 for the first convolution, got (3, 3)",
        ),
        (lambda: TorchNetwork(TWO, ONES, input_size=4), "input_size 4 contradicts the example, of the shape (1, 2, 3)"),
        (lambda: TorchNetwork(TWO, (ONES, ONES)), "example holds 2 tensors, forward takes 1: input; give example="),
        (lambda: TorchNetwork(TWO, {}), "example must hold a tensor, got none; give example="),
        (lambda: TorchNetwork(TWO, "image"), "input 'input' must be a tensor or an array, got str: "),
        (lambda: TorchNetwork(TWO, ONES[:, :1]).sites, "forward of Sequential fails on inputs of shape (1, 1, 3): "),
        (lambda: TorchNetwork(TWO, ONES).batches([]), "data holds no batch; give an array, several by name, or a list"),
        (lambda: TorchNetwork(TWO, ONES).batches({"x": ONES}), "data must have the inputs input, got x"),
        (
            lambda: TorchNetwork(TWO, ONES).batches(ONES.astype(int)),
            "data for input 'input' must be of type torch.float32, got torch.int64; convert it",
        ),
        (
            lambda: TorchNetwork(TWO, ONES).batches(ONES[0]),
            "data for input 'input' must have 3 axes as the example has, got the shape (2, 3)",
        ),
        (
            lambda: TorchNetwork(Given(Pair), {"x": ONES, "mask": ONES}).batches(ONES),
            "data must be mappings by name, since the network has 2 inputs: x, mask",
        ),
        (lambda: TorchNetwork(TWO, ONES).run({}), "the batch has no input input; make it by network.batches(data)"),
        (
            lambda: (n := TorchNetwork(Given(lambda *_: "text"), input_size=3)).run(n.example),
            "the network must return tensors, got str; wrap it in a module that does",
        ),
        (
            lambda: TorchNetwork(TWO, ONES).replaced({"0": tc.ConvSequence([tc.ConvLayer.of(np.ones((3, 2, 1)))])}),
            "the sequence for '0' must map 2 to 2 channels over 1 axes, got 2 to 3 over 1",
        ),
        (
            lambda: TorchNetwork(TWO, ONES, linear=True).replaced(
                {"1": tc.ConvSequence([tc.ConvLayer.of(np.ones((3, 3, 3)), padding=1)])}
            ),
            "the sequence for the fully connected '1' must be of convolutions with one tap, stride 1, no padding and "
            "one group, got 3 -> 3, kernel 3, stride 1, padding 1",
        ),
        (
            lambda: TorchNetwork(nn.Sequential(Uncopyable(2, 2, 1)), ONES).replaced({}),
            "the module cannot be copied: no copies; what torch.nn.utils.weight_norm has changed can be after "
            "torch.nn.utils.remove_weight_norm",
        ),
        (
            lambda: TorchNetwork(nn.Conv1d(2, 2, 1, device="meta"), ONES).run({"input": ONES}),
            "a tensor on meta of type torch.float32 has no array: ",
        ),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        call()
