"""One-file HTML pages: the report of a run, of an evaluation, of the doctor."""
