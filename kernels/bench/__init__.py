"""Measuring the operators beside the alternatives, with the hardware's floor beside every figure."""
