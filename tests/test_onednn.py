"""Products by oneDNN are those of torch, and only where they should be."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from osprey_nb.data.scenes import make_scene
from osprey_nb.onednn import ByOneDNN

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


class Calls(TorchDispatchMode):
    """Which of torch's operations ran."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))

    @property
    def by_onednn(self) -> int:
        return sum(name.startswith("mkldnn::_linear") for name in self.names)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "times"), [(200, 1), (2, 0)])
def test_many_rows_and_no_others(bias, rows, times):
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 160, bias=bias), torch.randn(3, rows, 96)
    with torch.no_grad(), Calls() as calls, ByOneDNN(nn.Sequential(linear)):
        y = linear(x)
    assert calls.by_onednn == times
    torch.testing.assert_close(y, linear(x))
    assert "forward" not in vars(linear)


def test_what_learns_keeps_its_gradient():
    linear, x = nn.Linear(96, 160), torch.randn(600, 96)
    with Calls() as calls, ByOneDNN(linear):
        linear(x).sum().backward()
    assert not calls.by_onednn and linear.weight.grad.abs().sum() > 0


def test_others_are_left_alone():
    hooked, half = nn.Linear(96, 160), nn.Linear(96, 160).bfloat16()
    hooked.forward = own = lambda x: x
    with torch.no_grad(), Calls() as calls, pytest.raises(KeyError), ByOneDNN(nn.ModuleList([hooked, half])):
        assert hooked.forward is own
        half(torch.randn(600, 96, dtype=torch.bfloat16))
        raise KeyError
    assert hooked.forward is own and not calls.by_onednn


def test_regions_are_read_by_it(tiny):
    scene = make_scene(7, split="eval")
    masks = [thing.mask for thing in scene.objects] * 8
    with Calls() as calls:
        tiny.describe(scene.image, masks, max_new_tokens=1)
    assert calls.by_onednn >= 3 * tiny.config.text_config.num_hidden_layers
