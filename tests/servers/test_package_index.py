"""An old index of the archive is refused; an expired one is reported with its age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest

from binlogsync.errors import EmbeddedServerError
from binlogsync.servers import debian
from binlogsync.servers.package_index import OLDEST, PackageIndex, parse_index

mysql, mariadb, redis = (import_module(f"binlogsync.servers.{name}") for name in ("mysql", "mariadb", "redis"))
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
IN_RELEASE = """-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Suite: unstable
Date: Fri, 30 Oct 2026 08:08:01 UTC
Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC
MD5Sum:
 5f8e12 1234 main/binary-amd64/Packages
"""


def test_the_dates_of_an_index() -> None:
    index = parse_index("sid", IN_RELEASE)
    assert index == PackageIndex(
        "sid", datetime(2026, 10, 30, 8, 8, 1, tzinfo=UTC), datetime(2026, 11, 6, 8, 8, 1, tzinfo=UTC)
    )
    assert index.age(NOW) == "index of sid signed 2026-10-30, 29 days ago"
    assert index.has_expired(NOW)
    assert not index.has_expired(index.signed + timedelta(days=6))
    assert not parse_index("sid", IN_RELEASE.replace("Valid-Until", "X")).has_expired(NOW)
    index.check(NOW)


@pytest.mark.parametrize("text", ["", "Date: soon\n", "Valid-Until: Fri, 06 Nov 2026 08:08:01 UTC\n"])
def test_an_index_without_a_date(text: str) -> None:
    with pytest.raises(EmbeddedServerError, match="no valid date"):
        parse_index("sid", text)


@pytest.mark.parametrize("suite", [*OLDEST])
def test_an_index_from_before_this_release(suite: str) -> None:
    PackageIndex(suite, OLDEST[suite], None).check(NOW)
    with pytest.raises(EmbeddedServerError, match="old packages are replayed"):
        PackageIndex(suite, OLDEST[suite] - timedelta(seconds=1), NOW + timedelta(days=1)).check(NOW)


def test_the_suites_of_the_private_servers_have_a_limit() -> None:
    sets = (mysql.PACKAGES, mariadb.PACKAGES, mariadb.PACKAGES_10_11, redis.PACKAGES)
    assert {each.suite for each in sets} == {*OLDEST}


def test_the_newest_index_in_the_lists_of_apt(tmp_path: Path) -> None:
    (tmp_path / "archive_dists_sid_InRelease").write_text(IN_RELEASE)
    (tmp_path / "archive_dists_bookworm_InRelease").write_text(IN_RELEASE.replace("2026", "2020"))
    assert debian.find_index(tmp_path, "sid") == parse_index("sid", IN_RELEASE)
    with pytest.raises(EmbeddedServerError, match="trixie"):
        debian.find_index(tmp_path, "trixie")
