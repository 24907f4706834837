"""`python -m fathom`, and so `torchrun ... -m -- fathom pretrain recipe.toml`."""

from fathom.cli.app import main

main()
