"""The way in and out: the tarballs of the Server's own backup script, as archives, and archives as such tarballs."""
