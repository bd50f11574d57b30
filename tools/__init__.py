"""Command-line tools: flags and gin in, one call into the package out."""
