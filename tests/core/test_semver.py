"""Versions are ordered as SemVer says, and follow from what was committed."""

import pytest

from pipeline.core.semver import Version, Weight, following


def test_versions_are_ordered_as_the_specification_orders_them() -> None:
    ordered = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.10"
    versions = [Version.parse(text) for text in ordered.split()]
    assert all(versions)
    ranks = [version.rank for version in versions if version]
    assert ranks == sorted(ranks)
    assert [str(version) for version in versions] == ordered.split()


@pytest.mark.parametrize(
    "text", ["1.2", "v1", "01.2.3", "1.2.3.4", "1.2.3-", "1.2.3-01", "1.2.3+b", "x1.2.3", "١.٢.٣", ""]
)
def test_what_is_no_version_is_none(text: str) -> None:
    assert Version.parse(text) is None


@pytest.mark.parametrize(
    ("last", "weights", "version"),
    [
        (None, ("major",), "0.1.0"),
        ("1.2.3", (), "1.2.4"),
        ("1.2.3", ("patch", "minor"), "1.3.0"),
        ("1.2.3", ("major", "patch"), "2.0.0"),
        ("0.2.3", ("major",), "0.3.0"),
        ("0.2.3", ("minor",), "0.3.0"),
        ("0.2.3", ("patch",), "0.2.4"),
    ],
)
def test_the_heaviest_change_decides(last: str | None, weights: tuple[Weight, ...], version: str) -> None:
    assert str(following(Version.parse(last) if last else None, weights)) == version
