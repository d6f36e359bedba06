"""A hundred tasks at once through the whole service; `make crowd` does the same with a thousand."""

from pathlib import Path

import docker

from tests.conftest import Services, empty
from tests.crowd.run import crowd
from tests.crowd.stack import Size, raised


def test_all_end_right_and_no_limit_is_passed(
    services: Services, engine: docker.DockerClient, image: str, tmp_path: Path
) -> None:
    empty(services)
    urls = (services.database_url, services.redis_url)
    with raised(tmp_path, urls, engine, 100, Size(models=2, sandboxes=1)) as stack:
        report = crowd(stack, services.redis_url, 100, within_s=120)
    assert report.wrong == [], report.lines()
    assert set(report.gateway["statuses"]) == {"200", "429", "529"}
