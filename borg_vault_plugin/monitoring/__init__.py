"""What others watch: how runs begin and end, and all that can be measured."""
