"""A page in the browser on which files are restored, and compared by ear."""
