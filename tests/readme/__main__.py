"""`make docs`: write the generated parts of README.md anew."""

from __future__ import annotations

from pathlib import Path

from readme.parts import generated

README = Path(__file__).parents[2] / "README.md"

if __name__ == "__main__":
    before = README.read_text("utf-8")
    after = generated(before)
    if after != before:
        README.write_text(after, "utf-8")
