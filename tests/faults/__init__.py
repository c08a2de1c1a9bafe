"""Whole runs of the program to which one bad thing happens, again and again: `make test-faults`.

`schedule` says what happens in which run; `ground` makes a Server with its nights, and copies it for every run;
`moments` finds the instant without the program's help; `kills`, `disks`, `damage`, `clock` and `company` are the bad
things, listed in `injections`; `checks` and, for archives, `archives` are what must hold afterwards; `play` and
`workers` go through it, and `table` tells it.
"""
