"""The network: latent attention, routed experts, multi-token prediction."""
