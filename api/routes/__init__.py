"""The routes, one module a subject. Each handler reads as the contract in docs/api.md says."""
