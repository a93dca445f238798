"""The scheduler of tables and workers, with a manual clock."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter

from binlogsync.consume.scheduler import Scheduler
from tests.consume.manual_clock import ManualClock
from tests.waiting import wait_until


def test_items_are_processed_in_turn() -> None:
    scheduler = Scheduler(["a", "b", "c"], workers=1)
    order = []
    for _ in range(7):
        item = scheduler.next()
        assert item is not None
        order.append(item)
        scheduler.requeue(item)
    assert order == list("abcabca")


def test_an_idle_item_is_queued_when_woken_or_when_its_time_is_over() -> None:
    clock = ManualClock()
    scheduler = Scheduler(["a", "b", "c"], 1, clock)
    for _ in "abc":
        scheduler.set_idle(str(scheduler.next()), 60.0)
    assert scheduler.idle_items() == (["a", "b", "c"], True)
    scheduler.wake(["b"])
    assert (scheduler.next(), scheduler.idle_items()) == ("b", (["a", "c"], False))
    scheduler.wake(["b"])  # a worker has it: it is not queued twice
    clock.now = 60.0
    assert [scheduler.next(), scheduler.next(), scheduler.idle_items()] == ["a", "c", ([], False)]


def test_failed_items_wait_and_occupy_at_most_half_of_the_workers() -> None:
    clock = ManualClock()
    scheduler = Scheduler([f"bad{n}" for n in range(6)] + ["good"], 4, clock)
    for _ in range(6):
        scheduler.delay_retry(str(scheduler.next()), 5.0)
    scheduler.wake([f"bad{n}" for n in range(6)])  # no effect on failed items
    assert scheduler.next() == "good"
    scheduler.requeue("good")
    clock.now = 5.0
    assert [scheduler.next() for _ in range(3)] == ["good", "bad0", "bad1"]
    scheduler.requeue("good")
    assert scheduler.next() == "good"  # failed items have two of the four workers, so the others of them wait
    scheduler.requeue("bad0")
    assert scheduler.next() == "bad2"


def test_an_added_item_is_processed_and_changes_the_limit_of_failed_items() -> None:
    clock = ManualClock()
    scheduler: Scheduler[str] = Scheduler([], 0, clock)
    for number in range(3):
        scheduler.add(f"bad{number}", workers=4)
        scheduler.delay_retry(str(scheduler.next()), 5.0)
    scheduler.add("good", workers=4)
    clock.now = 5.0
    assert [scheduler.next() for _ in range(3)] == ["good", "bad0", "bad1"]


def test_a_closed_scheduler_rescheduler_no_item() -> None:
    scheduler = Scheduler(["a"], 1)
    scheduler.close()
    assert scheduler.next() is None


def test_a_signal_during_work_queues_the_item_when_it_is_returned() -> None:
    clock = ManualClock()
    scheduler = Scheduler(["a", "b"], 1, clock)
    assert scheduler.next() == "a"
    scheduler.signal("a")
    scheduler.signal("b")  # it is queued already
    assert scheduler.next() == "b"
    scheduler.set_idle("b", 60.0)
    scheduler.set_idle("a", 60.0)
    assert scheduler.next() == "a"
    scheduler.set_idle("a", 60.0)
    scheduler.signal("b", 5.0)
    scheduler.signal("b", 9.0)  # the earlier time stays
    clock.now = 5.0
    assert scheduler.next() == "b"
    scheduler.delay_retry("b", 10.0)
    scheduler.signal("b")
    clock.now = 14.9
    assert scheduler.stalled_s() == 0.0, "a retry is not early"
    clock.now = 15.0
    assert scheduler.next() == "b"


def test_signaled_items_are_taken_together() -> None:
    scheduler = Scheduler(["a", "b", "c", "d"], 2, ManualClock())
    assert [scheduler.next() for _ in "abcd"] == ["a", "b", "c", "d"]
    for item in "bcd":
        scheduler.set_idle(item, 60.0)
    scheduler.signal("b", 9.0)
    scheduler.put_back("a", 9.0)
    assert scheduler.take_signaled(lambda item: item != "a") == ["b"]
    assert scheduler.take_signaled(lambda item: True) == ["a"]
    assert scheduler.take_signaled(lambda item: True) == []


def test_an_item_is_removed_after_its_work() -> None:
    scheduler = Scheduler(["a", "b"], 1, ManualClock())
    assert scheduler.next() == "a"
    assert not scheduler.remove("a", 0.0)
    scheduler.requeue("a")
    assert scheduler.remove("a", 0.0)
    assert scheduler.next() == "b"


def test_items_that_wait_while_no_worker_does_are_stalled() -> None:
    clock = ManualClock()
    scheduler = Scheduler(["a", "b"], 1, clock)
    assert scheduler.next() == "a"
    assert scheduler.stalled_s() == 0.0
    clock.now = 2.0
    assert scheduler.stalled_s() == 2.0
    assert scheduler.next() == "b"
    assert scheduler.stalled_s() == 0.0


def test_quick_work_is_done_by_one_worker_and_waiting_work_by_several() -> None:
    scheduler = Scheduler(["quick", "waits", "other"], 3, quick_s=3600.0, may_wait=lambda item: item == "waits")
    assert scheduler.next() == "quick"
    found: list[str | None] = []
    worker = threading.Thread(target=lambda: found.append(scheduler.next()))
    worker.start()
    scheduler.signal("other")
    worker.join(0.1)
    assert found == []
    scheduler.set_idle("quick", 3600.0)
    assert scheduler.next() == "waits"
    worker.join(30)
    assert found == ["other"]
    scheduler.close()


def test_another_worker_begins_when_work_is_not_quick() -> None:
    scheduler = Scheduler(["slow", "next"], 2, quick_s=0.05)
    assert scheduler.next() == "slow"
    assert scheduler.next() == "next"  # waits
    scheduler.close()


def test_no_signal_is_lost() -> None:
    items = list(range(20))
    scheduler = Scheduler(items, 6, quick_s=0.0005)
    posted, handled, lock = Counter[int](), Counter[int](), threading.Lock()
    generator = random.Random(1)  # noqa: S311 - reproducible, not secret

    def work() -> None:
        while (item := scheduler.next()) is not None:
            seen = posted[item]
            if not seen % 7:
                time.sleep(0.001)
            with lock:
                handled[item] = max(handled[item], seen)
            if seen % 5:
                scheduler.set_idle(item, 3600.0)
            else:
                scheduler.put_back(item, 0.0) if seen % 2 else scheduler.set_idle(item, 0.002 if seen < 50 else 3600.0)

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for _ in range(4_000):
        item = generator.choice(items)
        posted[item] += 1
        scheduler.signal(item, 0.001 * (posted[item] % 3))
        if not generator.randrange(50):
            time.sleep(0.002)
    wait_until(lambda: handled == posted, 30, "work for each signal")
    scheduler.close()
    for worker in workers:
        worker.join(30)


def test_a_worker_looks_for_each_delayed_item() -> None:
    scheduler = Scheduler(["later", "long", "next"], 3)
    for _ in range(3):
        scheduler.set_idle(str(scheduler.next()), 3600.0)
    done, release = dict.fromkeys(("long", "next"), False), threading.Event()

    def work() -> None:
        while (item := scheduler.next()) is not None:
            done[item] = True
            if item == "long":
                release.wait(60)
            scheduler.set_idle(item, 3600.0)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    wait_until(lambda: scheduler.workers_asleep == 3, 30, "workers that sleep")
    scheduler.signal("long", 0.2)
    wait_until(lambda: scheduler.workers_asleep == 3, 30, "a worker that waits for the first item")
    scheduler.signal("next", 0.4)
    wait_until(lambda: done["next"], 30, "the second item, while the first is in work")
    release.set()
    scheduler.close()
    for worker in workers:
        worker.join(30)


def test_several_returned_items_wake_one_worker() -> None:
    scheduler: Scheduler[str] = Scheduler([], 4, quick_s=3600.0)
    for number in range(5):
        scheduler.add(str(number), 4)
    taken = [scheduler.next()]
    workers = [threading.Thread(target=lambda: taken.append(scheduler.next())) for _ in range(4)]
    for worker in workers:
        worker.start()
    wait_until(lambda: scheduler.workers_asleep == 4, 30, "workers that sleep")
    others = scheduler.take_signaled(lambda _: True)
    for item in others:
        scheduler.requeue(item)
    assert scheduler.workers_asleep >= 3
    scheduler.close()
    for worker in workers:
        worker.join(30)
    assert taken == ["0"] + [None] * 4
