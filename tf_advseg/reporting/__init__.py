"""What a person reads: tables, curves, panels of masks and a run's report.

Takes arrays, summaries and journals; gives strings, figures and files. No TensorFlow.
"""
