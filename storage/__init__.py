"""What outlives a container and is no row: the bytes of uploaded files and of artifacts."""
