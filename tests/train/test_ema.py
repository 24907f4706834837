"""The average follows the parameters and can stand in for them."""

import torch
from torch import nn

from fathom.train.ema import ParameterAverage


def test_the_average_moves_by_the_decay_of_its_interval() -> None:
    weight = nn.Parameter(torch.zeros(3))
    average = ParameterAverage({"w": weight}, decay=0.9, every=2)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update(1)
    assert torch.equal(average.average["w"], torch.zeros(3))
    average.update(2)
    assert torch.allclose(average.average["w"], torch.full((3,), 1 - 0.9**2))


def test_parameters_come_back_after_the_average_stood_in() -> None:
    weight = nn.Parameter(torch.zeros(2))
    average = ParameterAverage({"w": weight}, decay=0.5, every=1)
    with torch.no_grad():
        weight.fill_(8.0)
    average.update(1)
    with average.in_place():
        assert torch.equal(weight.detach(), torch.full((2,), 4.0))
    assert torch.equal(weight.detach(), torch.full((2,), 8.0))
