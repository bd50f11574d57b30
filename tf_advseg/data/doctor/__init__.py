"""A data set examined image by image: what is wrong with it, and what leaks between its splits."""
