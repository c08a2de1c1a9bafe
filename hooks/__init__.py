"""The built-in pre-backup hooks: one file per producer of artifacts, plugins like anybody's."""
