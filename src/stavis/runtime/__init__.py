"""Services that every other folder uses: atomic files, progress display, worker processes, memory settings."""
