"""Seconds, memory and disk, and one device compared with another."""
