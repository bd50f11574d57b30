"""Rooms put together: a training run, its evaluation and its report, each one call.

This room stands above all others in the package; tools/ only parses flags and calls it.
"""
