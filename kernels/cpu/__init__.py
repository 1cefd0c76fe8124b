"""The operators on a processor: PyTorch's own routines, used only where they give every row the same bits.

Knows nothing of Triton, of `torch.library` and of models.
"""
