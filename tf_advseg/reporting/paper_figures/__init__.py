"""Figures and tables of single papers, from arrays and journals."""
