"""What makes the helpers exact and fast: compiled loops, the windows of tiles, the pieces of files."""
