"""`doctor`: what would make tonight's run or the bad day fail, found now, without changing anything."""
