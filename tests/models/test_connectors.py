import pytest
import torch
from torch.nn.functional import gelu

from mllm.registry import CONNECTORS


@pytest.mark.parametrize("name", ["linear", "mlp2x_gelu"])
def test_maps_the_width_and_keeps_the_tokens(name):
    connector = CONNECTORS.make(name, vision_width=6, text_width=10)
    assert connector(torch.randn(2, 5, 6)).shape == (2, 5, 10)
    assert connector.tokens(5) == 5


def test_mlp_is_two_layers_around_an_exact_gelu():
    connector = CONNECTORS.make("mlp2x_gelu", vision_width=6, text_width=10)
    first, _, second = connector.layers
    features = torch.randn(2, 5, 6)
    torch.testing.assert_close(connector(features), second(gelu(first(features))))
