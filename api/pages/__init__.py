"""The review pages: HTML made on the server for people, from the same rows and checks as the JSON of `/v1`.

A person signs in with an API key and sees what its caller may see. `router` has all routes, none below `/v1`.
Nothing that a program or a model wrote is ever markup here: every template escapes, no inline script or style
is allowed, and artifacts come from answers that a browser treats as a foreign sandbox.
"""

from api.pages.routes import router

__all__ = ["router"]
