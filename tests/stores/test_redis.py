"""RedisPositionStore passes the contract tests on a real server; also password, TLS, and every error of the server."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from binlogsync import servers
from binlogsync.errors import LeaseLostError, StoreError
from binlogsync.servers.process import free_port
from binlogsync.stores.redis import RedisOptions, RedisPositionStore
from tests.certificates import Certificates, make_certificates
from tests.stores.contract import AT, BOOKMARK, LATER, Opener, PositionStoreContract
from tests.stores.process import large_gtid_set
from tests.waiting import wait_until

_PREFIXES = (f"test-{os.getpid()}-{number}" for number in itertools.count())


@pytest.fixture
def options(redis_server: servers.RedisServer) -> RedisOptions:
    """The shared server, with a key prefix for this test."""
    return RedisOptions(redis_server.host, redis_server.port, password=redis_server.password, prefix=next(_PREFIXES))


@pytest.fixture
def client(redis_server: servers.RedisServer) -> Iterator[redis.Redis]:
    """A Redis client to inspect the keys."""
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


class TestRedisPositionStore(PositionStoreContract):
    @pytest.fixture
    def opener(self, options: RedisOptions) -> Opener:
        return lambda: RedisPositionStore(options)


# stored data


def test_a_source_is_one_hash(options: RedisOptions, client: redis.Redis) -> None:
    store = RedisPositionStore(options)
    lease = store.leases.claim("shop", "run 1")
    store.checkpoints.save(lease, AT)
    assert list(client.scan_iter(f"{options.prefix}:*")) == [f"{options.prefix}:position:shop"]
    found = client.hgetall(f"{options.prefix}:position:shop")
    assert int(found.pop("heard_us")) > 0
    assert found == {"checkpoint": AT.to_text(), "owner": "run 1", "epoch": "1", "released": "0"}


def test_bookmarks_are_one_hash(options: RedisOptions, client: redis.Redis) -> None:
    store = RedisPositionStore(options)
    store.bookmarks.put("shop", BOOKMARK)
    assert list(client.scan_iter(f"{options.prefix}:*")) == [f"{options.prefix}:bookmarks:shop"]
    client.hset(f"{options.prefix}:bookmarks:shop", "damaged", "{}")
    with pytest.raises(StoreError, match="a bookmark in .* cannot be read"):
        store.bookmarks.load("shop")


def test_a_clock_that_goes_back_neither_keeps_nor_kills_a_lease(options: RedisOptions, client: redis.Redis) -> None:
    store = RedisPositionStore(options)
    store.leases.claim("shop", "a")
    seconds, _ = client.time()
    client.hset(f"{options.prefix}:position:shop", "heard_us", (seconds + 3600) * 1_000_000)
    with pytest.raises(LeaseLostError, match=r"last heartbeat 0\.0 s ago"):
        store.leases.claim("shop", "b")
    wait_until(lambda: (lease := store.leases.load("shop")) and lease.age_s > 0.2, 10, "the lease to age again")
    assert store.leases.claim("shop", "b", stale_s=0.2).epoch == 2


@pytest.mark.server
def test_a_save_survives_a_restart_of_the_server_by_sigkill(tmp_path: Path) -> None:
    with servers.redis(data_dir=tmp_path / "data", options={"appendfsync": "always"}) as server:
        store = RedisPositionStore(RedisOptions(server.host, server.port, password=server.password))
        lease = store.leases.claim("shop", "a")
        for checkpoint in (replace(AT, gtids=large_gtid_set()), LATER):
            store.checkpoints.save(lease, checkpoint)
            server.kill()
            server.restart()
            assert store.checkpoints.load("shop") == checkpoint
        store.close()


# errors


def test_nothing_connects_before_the_first_call() -> None:
    RedisPositionStore(RedisOptions(port=1)).close()


def test_a_closed_store_says_so(options: RedisOptions) -> None:
    store = RedisPositionStore(options)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.checkpoints.load("shop")


def test_no_server_is_named() -> None:
    with pytest.raises(StoreError, match=r"Redis at 127\.0\.0\.1:1, database 0: .*; check host and port"):
        RedisPositionStore(RedisOptions(port=1)).leases.claim("shop", "a")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_wrong_password_is_named_and_not_shown(options: RedisOptions, password: str | None) -> None:
    wrong = replace(options, password=password)
    with pytest.raises(StoreError, match="check user name and password") as caught:
        RedisPositionStore(wrong).checkpoints.load("shop")
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")
    assert "wrong" not in repr(wrong)


def test_a_user_without_rights_is_named(options: RedisOptions, client: redis.Redis) -> None:
    client.acl_setuser("reader", enabled=True, passwords=["+only-reads"], categories=["+@read"], keys=["*"])
    with pytest.raises(StoreError, match="the ACL of that user must allow EVAL"):
        RedisPositionStore(replace(options, username="reader", password="only-reads")).leases.claim("shop", "a")


def test_the_rights_that_the_error_names_are_enough(options: RedisOptions, client: redis.Redis) -> None:
    named = ("+eval", "+evalsha", "+script|load", "+time", "+hget", "+hmget", "+hset", "+hincrby")
    client.script_flush()
    client.acl_setuser("tail", enabled=True, passwords=["+secret"], commands=named, keys=[f"{options.prefix}:*"])
    store = RedisPositionStore(replace(options, username="tail", password="secret"))
    lease = store.leases.claim("shop", "a")
    store.checkpoints.save(lease, AT)
    store.leases.release(lease)
    assert store.checkpoints.load("shop") == AT
    assert store.leases.load("shop")


def test_a_key_of_another_program_is_named(options: RedisOptions, client: redis.Redis) -> None:
    store = RedisPositionStore(options)
    client.set(f"{options.prefix}:position:shop", "notes")
    with pytest.raises(StoreError, match="choose another prefix"):
        store.leases.claim("shop", "a")
    with pytest.raises(StoreError, match="choose another prefix"):
        store.checkpoints.load("shop")


def test_a_damaged_checkpoint_is_named(options: RedisOptions, client: redis.Redis) -> None:
    store = RedisPositionStore(options)
    client.hset(f"{options.prefix}:position:shop", "checkpoint", "{}")
    with pytest.raises(StoreError, match=f"HDEL {options.prefix}:position:shop checkpoint"):
        store.checkpoints.load("shop")


@pytest.mark.server
def test_a_replica_and_a_full_memory_are_named_and_keep_the_old_checkpoint() -> None:
    with servers.redis() as server, redis.Redis.from_url(server.url) as admin:
        store = RedisPositionStore(RedisOptions(server.host, server.port, password=server.password))
        lease = store.leases.claim("shop", "a")
        store.checkpoints.save(lease, AT)
        admin.config_set("maxmemory", "1")
        with pytest.raises(StoreError, match="memory is full; raise maxmemory"):
            store.checkpoints.save(lease, LATER)
        admin.config_set("maxmemory", "0")
        admin.replicaof("127.0.0.1", "1")
        for step in (
            lambda: store.checkpoints.save(lease, LATER),
            lambda: store.leases.claim("shop", "b", take_over=True),
        ):
            with pytest.raises(StoreError, match="that is a replica"):
                step()
        assert store.checkpoints.load("shop") == AT
        admin.replicaof("NO", "ONE")
        store.checkpoints.save(lease, LATER)
        assert store.checkpoints.load("shop") == LATER
        store.close()


def answers(store: RedisPositionStore) -> bool:
    """Whether a busy machine answers in time; the store then has a connection."""
    try:
        store.checkpoints.load("shop")
    except StoreError:
        return False
    return True


def test_a_frozen_server_is_a_timeout_and_not_a_hang(options: RedisOptions, client: redis.Redis) -> None:
    with servers.redis() as server, redis.Redis.from_url(server.url) as admin:
        impatient = RedisOptions(server.host, server.port, password=server.password, timeout_s=0.2)
        store = RedisPositionStore(impatient)
        wait_until(lambda: answers(store), 10, "an answer within the short limit")
        admin.client_pause(60_000)
        with pytest.raises(StoreError, match="did not answer in time"):
            store.checkpoints.load("shop")
        store.close()


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_options(certificates: Certificates) -> Iterator[RedisOptions]:
    """A server that requires TLS with a client certificate, and valid options for it."""
    with servers.redis() as server, redis.Redis.from_url(server.url) as admin:
        tls_port = free_port()
        files = {
            "tls-ca-cert-file": certificates.ca,
            "tls-cert-file": certificates.cert,
            "tls-key-file": certificates.key,
        }
        try:
            admin.execute_command("CONFIG", "SET", *itertools.chain(*files.items()), "tls-port", tls_port)
        except redis.ResponseError as error:
            pytest.skip(f"this Redis has no TLS: {error}")
        yield RedisOptions(
            server.host,
            tls_port,
            password=server.password,
            tls=True,
            tls_ca_file=certificates.ca,
            tls_cert_file=certificates.cert,
            tls_key_file=certificates.key,
        )


@pytest.mark.server
def test_tls_with_a_client_certificate(tls_options: RedisOptions) -> None:
    store = RedisPositionStore(tls_options)
    store.checkpoints.save(store.leases.claim("shop", "a"), AT)
    assert store.checkpoints.load("shop") == AT
    store.close()


@pytest.mark.server
def test_a_server_of_an_unknown_authority_is_refused(tls_options: RedisOptions) -> None:
    with pytest.raises(StoreError, match=r"\(TLS\).*check tls_ca_file"):
        RedisPositionStore(replace(tls_options, tls_ca_file=None)).checkpoints.load("shop")


@pytest.mark.server
def test_a_missing_client_certificate_is_named(tls_options: RedisOptions) -> None:
    with pytest.raises(StoreError, match="check (tls_ca_file|host and port).*tls_cert_file"):
        RedisPositionStore(replace(tls_options, tls_cert_file=None, tls_key_file=None)).checkpoints.load("shop")


@pytest.mark.server
def test_a_plain_connection_to_a_tls_port_is_named(tls_options: RedisOptions) -> None:
    with pytest.raises(StoreError, match="that TLS is on"):
        RedisPositionStore(replace(tls_options, tls=False)).checkpoints.load("shop")
