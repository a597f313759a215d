"""Where jars come from, as Maven settings say it."""

from pathlib import Path

import pytest

from ondemand.errors import ConfigurationError
from ondemand.local.repositories import maven_mirror

NAMESPACE = "xmlns='http://maven.apache.org/SETTINGS/1.0.0'"


def written(
    tmp_path: Path, mirror_of: str, *, namespace: str = "", url: str = "http://localhost/m/"
) -> Path:
    path = tmp_path / "settings.xml"
    path.write_text(
        f"<settings {namespace}><mirrors><mirror><id>a</id><url>{url}</url>"
        f"<mirrorOf>{mirror_of}</mirrorOf></mirror></mirrors></settings>"
    )
    return path


@pytest.mark.parametrize("mirror_of", ["central", "*", "external:*", "other, central", "*,!other"])
@pytest.mark.parametrize("namespace", ["", NAMESPACE])
def test_a_mirror_of_central_is_used(tmp_path: Path, mirror_of: str, namespace: str) -> None:
    """Maven's wildcards and lists count, with and without the file's namespace."""
    assert maven_mirror(written(tmp_path, mirror_of, namespace=namespace)) == "http://localhost/m"


@pytest.mark.parametrize("mirror_of", ["other", "*,!central", "!central", ""])
def test_another_mirror_is_not_used(tmp_path: Path, mirror_of: str) -> None:
    """A mirror of something else does not serve what central serves."""
    assert maven_mirror(written(tmp_path, mirror_of)) is None


def test_names_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maven replaces `${env.NAME}`, and so do we."""
    monkeypatch.setenv("NEAR", "127.0.0.1")

    assert maven_mirror(written(tmp_path, "*", url="http://${env.NEAR}/m")) == "http://127.0.0.1/m"


def test_no_settings_no_mirror(tmp_path: Path) -> None:
    """Most people have no settings: the default repository is used."""
    assert maven_mirror(tmp_path / "settings.xml") is None


def test_settings_that_are_no_xml(tmp_path: Path) -> None:
    """A broken file is named; nothing is fetched from elsewhere behind its owner's back."""
    path = tmp_path / "settings.xml"
    path.write_text("<settings>")

    with pytest.raises(ConfigurationError, match=r"settings\.xml is no valid XML"):
        maven_mirror(path)
