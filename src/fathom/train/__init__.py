"""The training run: objective, optimisers, schedule, balance, guard, checkpoints and the loop."""
