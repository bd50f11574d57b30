"""Plain references that tests of this room share."""
import pathlib
import sys

# The tests run in importlib mode, which puts no test folder on the path.
_HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / 'adversaries')]
