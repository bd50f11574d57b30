"""Rooms put together: a training run, its evaluation and its report, each one call.

This subpackage stands above all others; tools/ only parses flags and calls it.
"""
