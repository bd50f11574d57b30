"""Small pure functions on tensors; they import nothing of ours.

A pixel loss returns sums [B] and valid counts [B] per example: the caller divides by a normaliser
that it has all-reduced, so that a step on several replicas equals the step on one.
"""
