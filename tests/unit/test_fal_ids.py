import pytest

from rankcast.web.fal.ids import AppId, app_of, parse, without_last


@pytest.mark.parametrize(
    ("text", "app_id"),
    [
        ("acme/steps", AppId("acme", "steps")),
        ("/acme/steps/", AppId("acme", "steps")),
        ("acme/steps/upscale", AppId("acme", "steps", "upscale")),
        ("acme/steps/train/fast/", AppId("acme", "steps", "train/fast")),
        ("acme", None),
        ("acme/", None),
        ("/", None),
        ("", None),
        ("acme//x", None),
    ],
)
def test_an_id_has_an_owner_an_alias_and_maybe_a_path(text: str, app_id: AppId | None) -> None:
    assert parse(text) == app_id


def test_app_and_task_are_names_of_ours() -> None:
    assert (AppId("acme", "steps").app, AppId("acme", "steps").task) == ("acme/steps", "acme/steps")
    below = AppId("acme", "steps", "train/fast")
    assert (below.app, below.task) == ("acme/steps", "acme/steps/train/fast")
    assert app_of(below.task) == app_of("acme/steps") == "acme/steps"


def test_the_last_segment_comes_off() -> None:
    assert without_last(AppId("a", "b", "up/stream")) == (AppId("a", "b", "up"), "stream")
    assert without_last(AppId("a", "b", "stream")) == (AppId("a", "b"), "stream")
    assert without_last(AppId("a", "b")) == (AppId("a", "b"), "")
