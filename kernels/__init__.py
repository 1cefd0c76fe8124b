"""Batch-invariant operators for the native model. Nothing stands here yet; knows tensors only."""
