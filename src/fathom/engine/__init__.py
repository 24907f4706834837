"""Generation: sampling parameters, the sampler, and decoding with a latent cache."""
