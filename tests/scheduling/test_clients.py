"""Several clients of one model, none of whom gets more than its turn, played on virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import QueueFullError, ServerUnavailableError
from edge_runtime.scheduling.request import Period, Request
from edge_runtime.scheduling.scheduler import ModelPolicy, Scheduler
from edge_runtime.scheduling.service_times import ServiceTimes

MS = 1_000_000
RUN_MS = {1: 5, 2: 8, 4: 12}


def made(client, at_ms=0, rows=1, **options):
    request = Request("m", {}, dict, print, int(at_ms * MS), rows)
    request.client = client
    for name, value in options.items():
        setattr(request, name, value)
    return request


def scheduler_of(queue_size=10_000, max_batch=0, runs_ms=None):
    times = ServiceTimes(margin=0)
    scheduler = Scheduler(times, 1)
    scheduler.register(ModelPolicy("m", 1, queue_size, max_batch))
    for rows, ms in (RUN_MS if runs_ms is None else runs_ms).items():
        times.seed("m", 0, rows, ms * MS)
    return scheduler


def order_of(scheduler, now=0):
    """The clients of all runs from here on, which take a millisecond a row."""
    order = []
    dispatch = scheduler.next(now)
    while dispatch is not None:
        order.append("".join(each.client for each in dispatch.requests))
        now += dispatch.rows * MS
        scheduler.finish(dispatch, now)
        dispatch = scheduler.next(now)
    return order


def admit(scheduler, *requests):
    for request in requests:
        scheduler.admit(request, request.arrival_ns)


def test_one_that_comes_after_a_flood_is_next_after_the_run_under_way():
    scheduler = scheduler_of()
    admit(scheduler, *[made("h") for _ in range(64)])
    running = scheduler.next(0)
    admit(scheduler, made("g"), made("g"))
    scheduler.finish(running, 0)
    assert order_of(scheduler)[:5] == list("ghghh")


def test_a_clients_own_requests_run_in_their_order():
    scheduler = scheduler_of()
    requests = [made(client) for client in "aabababbaa"]
    admit(scheduler, *requests)
    given_out = []
    for dispatch in iter(lambda: scheduler.next(0), None):
        given_out += dispatch.requests
        scheduler.finish(dispatch, 0)
    for client in "ab":
        own = [request for request in requests if request.client == client]
        assert [request for request in given_out if request.client == client] == own


def test_turns_are_by_the_service_time_that_was_used():
    scheduler = scheduler_of(runs_ms={1: 1, 4: 4})
    admit(scheduler, *[made("l", rows=4) for _ in range(8)], *[made("s") for _ in range(32)])
    order = order_of(scheduler)[:30]
    assert order.count("s") == pytest.approx(4 * order.count("l"), abs=4)


def test_clients_take_turns_while_service_times_are_unknown():
    scheduler = scheduler_of(runs_ms={})
    admit(scheduler, *[made(client) for client in "aaabbbccc"])
    running = scheduler.next(0)
    scheduler.finish(running, 0)
    assert [running.requests[0].client, *order_of(scheduler)] == list("abcabcabc")


def test_a_priority_goes_before_turns():
    scheduler = scheduler_of()
    admit(scheduler, made("g"), *[made("h", priority=1) for _ in range(3)])
    assert order_of(scheduler) == list("hhhg")


def test_one_with_a_deadline_goes_before_the_turns_of_those_without():
    scheduler = scheduler_of()
    admit(scheduler, *[made(client) for client in "aabb"], made("a", deadline_ns=14 * MS))
    assert order_of(scheduler)[0] == "a"


@pytest.mark.parametrize("hogs", [None, 30_000 * MS])
@pytest.mark.parametrize("goods", [None, 40_000 * MS])
def test_generous_deadlines_dont_make_a_client_wait_for_more_than_its_turn(hogs, goods):
    scheduler = scheduler_of()
    admit(scheduler, *[made("h", deadline_ns=hogs) for _ in range(64)])
    running = scheduler.next(0)
    admit(scheduler, made("g", deadline_ns=goods), made("g", deadline_ns=goods))
    scheduler.finish(running, MS)
    assert order_of(scheduler, MS)[:5] == list("ghghh")


def test_a_turn_is_passed_over_where_it_would_break_a_promise():
    scheduler = scheduler_of()
    admit(scheduler, *[made("h", deadline_ns=10 * MS) for _ in range(2)], made("g", deadline_ns=900 * MS))
    assert order_of(scheduler) == list("hhg")


def test_requests_of_several_clients_share_a_run():
    scheduler = scheduler_of(max_batch=4, runs_ms={1: 5, 2: 5, 3: 5, 4: 5})
    admit(scheduler, *[made("h", group="g") for _ in range(6)], *[made(each, group="g") for each in "ab"])
    assert order_of(scheduler) == ["habh", "hhhh"]


def test_a_client_that_comes_back_goes_on_where_it_was():
    """One with long requests, one at a time, gets no more than half beside one with short ones that always waits."""
    scheduler, now, used = scheduler_of(), 0, {"l": 0, "s": 0}
    admit(scheduler, made("l", rows=4), *[made("s") for _ in range(300)])
    while used["s"] < 300 * 5:
        dispatch = scheduler.next(now)
        client, rows = dispatch.requests[0].client, dispatch.rows
        used[client] += RUN_MS[rows]
        now += RUN_MS[rows] * MS
        scheduler.finish(dispatch, now)
        if client == "l" and used["s"] < 1000:
            scheduler.admit(made("l", rows=4), now)
    assert used["l"] == pytest.approx(1000, abs=30)


def test_a_withdrawn_request_costs_its_client_nothing():
    scheduler = scheduler_of()
    first = made("a")
    admit(scheduler, first, *[made(client) for client in "ab"])
    assert scheduler.withdraw(first)
    assert order_of(scheduler) == list("ab")


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 4), st.sampled_from(sorted(RUN_MS))), min_size=1, max_size=80
)


def services(play, requests):
    """For how long each client waited while others were served, and whether it had been served before."""
    ordered = sorted(requests, key=lambda request: request.arrival_ns)
    trace = play(scheduler_of(), ordered, 1, lambda dispatch: RUN_MS[dispatch.rows] * MS)
    for client in {request.client for request in requests}:
        own = [trace.outcomes[each] for each in ordered if each.client == client]
        served_ns = None
        for outcome in own:
            arrival_ns = outcome.request.arrival_ns
            yield served_ns is not None, outcome.started_ns - max(arrival_ns, served_ns or 0)
            served_ns = outcome.answered_ns


@given(arrivals=ARRIVALS)
@settings(max_examples=200, deadline=None)
def test_every_client_with_something_waiting_is_served_within_a_run_of_each(play, arrivals):
    clients = {client for _, client, _ in arrivals}
    requests = [made(client, at_ms) for at_ms, client, _ in arrivals]
    assert all(waited_ns <= len(clients) * RUN_MS[1] * MS for _, waited_ns in services(play, requests))


@given(arrivals=ARRIVALS)
@settings(max_examples=200, deadline=None)
def test_with_unlike_runs_a_client_also_waits_for_as_much_as_it_was_served_last(play, arrivals):
    clients, longest_ns = {client for _, client, _ in arrivals}, max(RUN_MS[rows] for *_, rows in arrivals) * MS
    for was_served, waited_ns in services(play, [made(client, at_ms, rows) for at_ms, client, rows in arrivals]):
        assert waited_ns <= (2 if was_served else 1) * len(clients) * longest_ns


def test_nobody_starves_while_ever_new_clients_come():
    scheduler, served = scheduler_of(queue_size=6), []
    admit(scheduler, *[made(client) for client in "aabcd"])
    for step in range(20):
        dispatch = scheduler.next(0)
        served.append(dispatch.requests[0].client)
        scheduler.finish(dispatch, 0)
        scheduler.admit(made(step), 0)
    assert [at for at, client in enumerate(served) if client == "a"] == [0, 4]


def test_clients_that_ask_for_one_thing_at_a_time_are_served_in_the_order_in_which_they_came():
    scheduler = scheduler_of(queue_size=6)
    admit(scheduler, *[made(client) for client in "abcdef"])
    served = ""
    for come in "abghijacbk":  # who comes back, and who comes anew
        dispatch = scheduler.next(0)
        served += dispatch.requests[0].client
        scheduler.finish(dispatch, 0)
        scheduler.admit(made(come), 0)
    assert served + "".join(order_of(scheduler)) == "abcdef" + "abghijacbk"


@pytest.mark.parametrize("deadline_s", [None, 60])
def test_the_oldest_goes_first_where_each_client_has_one_thing_waiting(deadline_s):
    scheduler = scheduler_of(queue_size=6)

    def asked(client, at_ms):
        return made(client, at_ms, deadline_ns=None if deadline_s is None else at_ms * MS + deadline_s * 1000 * MS)

    admit(scheduler, *[asked(client, 0) for client in "abcdef"])
    served = ""
    for at_ms, come in enumerate("abghij", start=1):
        dispatch = scheduler.next(at_ms * MS)
        served += dispatch.requests[0].client
        scheduler.finish(dispatch, at_ms * MS)
        scheduler.admit(asked(come, at_ms), at_ms * MS)
    assert served + "".join(order_of(scheduler)) == "abcdef" + "abghij"


def test_little_is_kept_of_clients_that_are_gone():
    scheduler = scheduler_of()
    for round_ in range(2):
        admit(scheduler, *[made(f"{round_}.{client}") for client in range(10_000)])
        order_of(scheduler)
    model = scheduler._state.models["m"]
    (turns,) = model.easy.values()
    assert (len(model.clients), len(turns._lines), len(turns._left) <= 1024) == (0, 1, True)


def refused(scheduler, *requests):
    """The names of the errors by which requests are refused; "" for one that is taken in."""
    found = []
    for request in requests:
        try:
            scheduler.admit(request, request.arrival_ns)
            found.append("")
        except ServerUnavailableError as error:
            found.append(type(error).__name__)
    return found


def test_a_full_queue_gives_the_newest_place_of_who_has_most_to_a_client_with_less_than_its_share():
    scheduler = scheduler_of(queue_size=4)
    flood = [made("h") for _ in range(4)]
    admit(scheduler, *flood)
    assert refused(scheduler, made("g"), made("h"), made("g"), made("g")) == [
        "",
        "QueueFullError",
        "",
        "QueueFullError",
    ]
    assert scheduler.next_expiry_ns() == 0
    displaced = scheduler.take_refused(0)
    assert [request for request, _ in displaced] == [flood[3], flood[2]]
    assert all(type(error) is QueueFullError and error.retry_after_s > 0 for _, error in displaced)
    assert (scheduler.waiting(), scheduler.take_refused(0)) == (4, [])


def test_nobody_gives_way_where_all_have_their_share_or_there_are_more_clients_than_places():
    scheduler = scheduler_of(queue_size=4)
    admit(scheduler, *[made(client) for client in "aabb"])
    assert refused(scheduler, made("a"), made("c")) == ["QueueFullError", ""]
    assert refused(scheduler, *[made(client) for client in "defg"]) == ["", *["QueueFullError"] * 3]


def test_the_last_rank_of_a_client_gives_way_first():
    scheduler = scheduler_of(queue_size=3)
    requests = [made("h", priority=priority) for priority in (2, 0, 1)]
    admit(scheduler, *requests, made("g"))
    assert [request for request, _ in scheduler.take_refused(0)] == [requests[1]]


def test_what_was_promised_doesnt_give_way_but_its_client_gets_no_more_until_the_other_has_a_place():
    scheduler = scheduler_of(queue_size=4, runs_ms={})
    promised = [made("h", deadline_ns=1000 * MS) for _ in range(4)]
    admit(scheduler, *promised)
    assert refused(scheduler, made("g")) == ["QueueFullError"]
    running = scheduler.next(0)
    assert running.requests == (promised[0],)
    assert refused(scheduler, made("h"), made("g"), made("i")) == ["QueueFullError", "", "QueueFullError"]


def test_a_free_place_is_anybodys_however_many_clients_there_are():
    scheduler = scheduler_of(queue_size=2, runs_ms={})
    admit(scheduler, *[made("h", deadline_ns=1000 * MS) for _ in range(2)])
    assert refused(scheduler, made("g")) == ["QueueFullError"]
    assert scheduler.next(0) is not None
    assert refused(scheduler, made("i"), made("g")) == ["", "QueueFullError"]


def test_a_client_gets_nothing_for_the_time_that_it_asked_for_nothing():
    scheduler = scheduler_of(runs_ms={1: 1})
    admit(scheduler, made("a"))
    order_of(scheduler)
    for step in range(20):  # others have the model for themselves
        admit(scheduler, *[made(client, deadline_ns=(step + 100) * 1000 * MS) for client in "bc"])
        order_of(scheduler)
    admit(scheduler, *[made(client) for client in "aaabbb"])
    assert sorted(order_of(scheduler)[:2]) == ["a", "b"]


def test_a_client_alone_may_have_the_whole_queue_and_all_the_time():
    scheduler = scheduler_of(queue_size=8)
    assert refused(scheduler, *[made("h", deadline_ns=40 * MS) for _ in range(8)]) == [""] * 8


def test_a_client_is_promised_its_share_of_the_time_while_others_wait():
    scheduler = scheduler_of()
    scheduler.admit(made("g"), 0)
    answers = refused(scheduler, *[made("h", deadline_ns=40 * MS) for _ in range(8)])
    assert answers == [""] * 4 + ["DeadlineRefusedError"] * 4
    assert refused(scheduler, made("h", deadline_ns=100 * MS), made("i", deadline_ns=30 * MS)) == ["", ""]


def test_a_client_that_found_all_time_promised_finds_room_when_it_comes_again():
    scheduler, now, answers = scheduler_of(), 0, []
    admit(scheduler, *[made("h", deadline_ns=40 * MS) for _ in range(8)])
    for step in range(40):
        running = scheduler.next(now)
        now += 5 * MS
        scheduler.finish(running, now)
        answers += refused(scheduler, made("h", now / MS, deadline_ns=now + 40 * MS))
        if step % 4 == 0:
            answers += [f"g {each}" for each in refused(scheduler, made("g", now / MS, deadline_ns=now + 25 * MS))]
    own = [each for each in answers if each[:1] == "g"]
    assert own == ["g DeadlineRefusedError"] + ["g "] * 9


def test_requests_of_a_declared_stream_are_outside_of_the_shares():
    scheduler = scheduler_of(runs_ms={1: 1})
    scheduler.admit(made("g"), 0)
    camera = [made("h", deadline_ns=8 * MS, stream=Period(name, 10 * MS, 8 * MS)) for name in "abcde"]
    assert refused(scheduler, *camera) == [""] * 5


@pytest.mark.parametrize("end", ["withdraw", "close"])
def test_one_that_gave_its_place_up_is_given_back_once(end):
    scheduler = scheduler_of(queue_size=2)
    flood = [made("h") for _ in range(2)]
    admit(scheduler, *flood, made("g"))
    assert not scheduler.is_idle
    if end == "withdraw":
        assert scheduler.withdraw(flood[1])
        assert not scheduler.withdraw(flood[1])
    else:
        assert flood[1] in scheduler.close()
    assert scheduler.take_refused(0) == []


def test_a_deadline_that_cant_be_kept_takes_no_place():
    scheduler = scheduler_of(queue_size=2)
    admit(scheduler, made("h"), made("h"))
    assert refused(scheduler, made("g", deadline_ns=1)) == ["DeadlineRefusedError"]
    assert scheduler.take_refused(0) == []


def test_ranks_that_clients_thought_up_are_forgotten():
    scheduler = scheduler_of()
    for priority in range(1000):
        admit(scheduler, made("a", priority=priority))
        order_of(scheduler)
    assert len(scheduler._state.models["m"].easy) <= 64
