"""Everything that talks to models. Knows nothing of sandboxes and nothing of the database."""
