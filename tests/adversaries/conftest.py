"""Plain references that tests of this room, and of methods, share."""
import pathlib
import sys

# The tests run in importlib mode, which puts no test folder on the path.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
