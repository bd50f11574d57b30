"""Lookahead adversarial learning (LoAd): cycles, peaks, rewinds and the map-aggregation buffer.

`controller` is Algorithms 2 and 3 as a pure state machine, `buffer_policy` is Algorithm 1 as a
pure function on slot names, `map_buffer` keeps the slots on disk, `snapshots` keeps the models
and `orchestrator` runs a method's steps under all of them.
"""
