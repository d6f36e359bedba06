"""The pages, one module each."""

from fastapi import APIRouter

from api.pages import static
from api.pages.routes import account, batches, keys, new, numbers, run, runs

router = APIRouter(include_in_schema=False)
for module in (account, runs, run, batches, new, numbers, keys):
    router.include_router(module.router)
router.include_router(static.router)
