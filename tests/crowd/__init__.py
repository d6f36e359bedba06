"""Many tasks at once through the whole service, against a gateway that keeps a strict watch on its limits."""
