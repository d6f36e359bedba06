"""`retort bench`: models measured against each other, and the execution side alone.

A client of the HTTP API like any other. `plan` says what is measured, `runner` measures, `journal` keeps
each measurement, `figures` and `metrics` make sense of them, `report` and its forms (`table`, `sheets`,
`page`) tell.
"""
