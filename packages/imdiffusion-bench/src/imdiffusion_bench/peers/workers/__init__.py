"""What runs in the environments of peers: scripts that import nothing of this package."""
