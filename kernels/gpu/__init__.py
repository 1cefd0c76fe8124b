"""The operators as Triton kernels, for CUDA devices and for Triton's interpreter.

Importing a module of this package needs Triton; `microturn.kernels.library` does so on first use.
Knows nothing of `torch.library` and of models.
"""
