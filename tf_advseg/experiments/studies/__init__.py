"""Many runs at once: sweeps, and the cells of a paper's table."""
