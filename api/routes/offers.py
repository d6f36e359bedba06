"""What a request may choose: languages and profiles."""

from contextlib import suppress
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from api.answers import json_answer
from api.auth import Guarded
from api.offer_schemas import LanguageList, ProfileList
from api.openapi import operation
from api.problems import Kind, Problem
from api.queries import query_of
from api.services import services_of
from domain.quotas import Scope

router = APIRouter(prefix="/v1", route_class=Guarded)


@router.get(
    "/languages",
    **operation(
        "List languages",
        {200: (LanguageList, "The languages, and the versions, profiles and packages of each.")},
        scope=Scope.READ,
        problems=(Kind.INVALID,),
    ),
)
async def languages(request: Request) -> Response:
    """Lists the languages."""
    query_of(request)
    offered = services_of(request).offered
    with suppress(Problem):  # then what was known before is shown
        await offered.look()
    return json_answer({"languages": offered.document()})


@router.get(
    "/profiles",
    **operation(
        "List profiles",
        {200: (ProfileList, "The profiles, with the range of each limit.")},
        scope=Scope.READ,
        problems=(Kind.INVALID,),
    ),
)
async def profiles(request: Request) -> Response:
    """Lists the profiles."""
    query_of(request)
    offered = services_of(request).intake.profiles.values()
    return json_answer(
        {
            "profiles": [
                {
                    "name": each.name,
                    "title": each.title,
                    "limits": {name: asdict(choice) for name, choice in each.choices.items()},
                    "fixed": asdict(each.fixed),
                    "files": asdict(each.files),
                }
                for each in offered
            ],
        },
    )
