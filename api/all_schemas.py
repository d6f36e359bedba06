"""The schemas of all subjects together, as the OpenAPI document has them."""

from pydantic import BaseModel

from api import (
    account_schemas,
    attempt_schemas,
    batch_schemas,
    file_schemas,
    health_schemas,
    job_schemas,
    offer_schemas,
    request_schemas,
    schemas,
    stat_schemas,
    webhook_schemas,
)

#: Every type of a body, by the name it has in the document.
MODELS: dict[str, type[BaseModel]] = {
    name: model
    for module in (
        schemas,
        request_schemas,
        file_schemas,
        job_schemas,
        attempt_schemas,
        offer_schemas,
        health_schemas,
        account_schemas,
        batch_schemas,
        stat_schemas,
        webhook_schemas,
    )
    for name, model in vars(module).items()
    if isinstance(model, type) and issubclass(model, BaseModel) and not model.__name__.startswith("_")
}
MODELS.pop("BaseModel")

#: Bodies that may be left out.
OPTIONAL = (request_schemas.RerunRequest, webhook_schemas.SecretRotation)
