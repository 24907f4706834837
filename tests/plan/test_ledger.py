"""The ledger counts each storage once, from when it is made until nobody holds it."""

import pytest
import torch

from fathom.plan.ledger import Ledger

CPU, META = torch.device("cpu"), torch.device("meta")
KILO = 1024


@pytest.mark.parametrize("device", [CPU, META])
def test_what_is_made_counts_until_it_is_let_go(device):
    with Ledger(device) as ledger:
        first = torch.empty(KILO, device=device)
        second = torch.empty(KILO, dtype=torch.bfloat16, device=device)
        assert ledger.alive == 6 * KILO
        del first
        assert ledger.alive == 2 * KILO
        assert second.numel() == KILO
    assert ledger.most == 6 * KILO


@pytest.mark.parametrize("device", [CPU, META])
def test_views_and_changes_in_place_are_no_new_memory(device):
    with Ledger(device) as ledger:
        tensor = torch.empty(KILO, device=device)
        view = tensor.view(32, 32).t()[3:]
        tensor.add_(1.0)
        del tensor
        assert ledger.alive == 4 * KILO
        del view
        assert ledger.alive == 0


def test_what_was_there_before_counts_when_it_is_entered_and_once():
    weight = torch.empty(KILO)
    with Ledger(CPU) as ledger:
        ledger.enter([weight, weight[10:], weight])
        assert ledger.alive == 4 * KILO


def test_what_the_backward_pass_needs_is_alive_until_it_has_run():
    weight = torch.ones(KILO, requires_grad=True)
    with Ledger(CPU) as ledger:
        loss = weight.exp().exp().sum()
        assert ledger.alive >= 8 * KILO
        loss.backward()
        del loss
        assert ledger.alive == 4 * KILO
        assert weight.grad is not None


def test_other_devices_are_not_counted():
    with Ledger(META) as ledger:
        kept = torch.empty(KILO)
    assert ledger.alive == 0
    assert kept.numel() == KILO
