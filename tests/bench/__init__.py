"""What a night costs: this program beside the alternatives, in one run, with what each takes of everything.

`make bench` measures and writes results/: bench.json with every sample, bench.md, and two pictures. What is measured
is in contenders.py and parts.py, how in measuring.py.
"""
