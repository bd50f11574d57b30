"""One file = one paper = its training steps; base.py holds what they share.

A method computes losses and gradients for one step. When steps are taken, in which order
and on which data is decided elsewhere (training/loop, lookahead/orchestrator).
"""
