"""What a person runs and imports: the command line, the client, and the supervisor."""
