"""Models and runs measured: evaluation, prediction, confidence, inspection."""
