"""Augmentation as the papers do it: pure functions of a stateless seed."""
