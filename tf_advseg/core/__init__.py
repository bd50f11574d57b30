"""The ground floor: errors a user sees, atomic files, journal, run directory, random streams.

Every other room may import this one; it imports none of them, and it loads TensorFlow only
inside the functions of `runtime` and `indexed_records`.
"""
