"""Kernels: tensors in, one scalar sum out. The loop divides; a kernel never does."""
