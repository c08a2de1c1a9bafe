"""Pages for auditors: one HTML file each, complete in itself, that can be read without this program and without trust.

Whatever a page shows may come from somebody who wants to deceive its reader, so text becomes HTML in one place only
(`markup`), and no page contains or loads anything that runs.
"""
