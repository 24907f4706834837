"""Triton forms of the hot operations, for CUDA devices; `fathom.kernels.gpu.door` says where they may be used."""
