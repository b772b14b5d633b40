"""The egress proxy: the only way out of a sandbox whose network reaches listed hosts."""
