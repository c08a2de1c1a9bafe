"""The parts of README.md that are made from the program itself: `make docs` writes them, a test finds stale ones.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`. `parts` knows them all; each has a module.
"""
