"""The HTTP service: takes jobs and answers questions. Holds no model key and no Docker socket."""
