"""Models that step down and return: under made-up heat that is replayed, on virtual time and in a whole server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Callable, Coroutine, Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
from fakes.board_readings import RAMP, ramp, reading_of

from edge_runtime.client import Client
from edge_runtime.engine.engine import Engine
from edge_runtime.engine.process.presence import Presence
from edge_runtime.errors import LadderError
from edge_runtime.plan.ladder import LadderTable
from edge_runtime.plan.serving import ServingTable
from edge_runtime.server.absence import Absence
from edge_runtime.server.accelerators import Accelerators, Prepared, prepared
from edge_runtime.server.board import BoardReading
from edge_runtime.server.degradation import Ladders
from edge_runtime.server.engine_watch import watch_engines
from edge_runtime.server.models import ModelTable
from edge_runtime.server.settings import ServerSettings
from edge_runtime.server.warm_up import Measured
from edge_runtime.wire.inference import InferRequest, Schedule, WantedOutput

S = 1_000_000_000
LADDER = {"rungs": ["slow", "fast"], "headroom_c": 10, "dwell_s": 1, "return_dwell_s": 1, "most_return_dwell_s": 1}
ROW = np.array([[1, 2, 3, 4]], np.float32)


class Heated:
    """A table of models with ladders, over a board whose reading and clock are the test's."""

    def __init__(self, engines: list[Engine], ladder: dict[str, Any], is_staying_up: bool = False) -> None:
        self.now_s = 0.0
        self.reading = BoardReading(0)
        self.accelerators = Accelerators(ServerSettings())
        table = ServingTable(ladder=LadderTable(**ladder))
        unknown = Measured((), False)  # a gated engine's runs can't be timed before it is released
        self.models = ModelTable(
            self.accelerators.add(
                *(
                    Prepared(each, unknown, table) if each.info.name == "gated" else prepared(each, table)
                    for each in engines
                )
            )
        )
        self.ladders = Ladders(
            self.models, self.accelerators, lambda: self.reading, lambda: round(self.now_s * S), is_staying_up
        )

    def look(self, reading: BoardReading, until_s: float) -> list[int]:
        """The rung of `slow` after each look, twice a second."""
        self.reading, rungs = reading, []
        while self.now_s < until_s:
            self.ladders.look()
            rungs.append(self.view().rung)
            self.now_s += 0.5
        return rungs

    def view(self) -> Any:
        ladder = next(iter(self.models)).ladder
        assert ladder is not None
        return ladder()

    async def ask(self, name: str = "slow") -> tuple[float, str]:
        """What came of the first element, and which rung said so."""
        received = InferRequest(name, "", "", {"x": ROW}, (WantedOutput("y", True),))
        model = self.models.find(name)
        return await model.infer(
            received, model.now_ns(), lambda answer: (float(answer.outputs["y"][0, 0]), answer.rung)
        )


@pytest.fixture
def heated(factor_engine: Any) -> Iterator[Callable[..., None]]:
    """`heated(story, ...)` runs a coroutine over models `slow` (answers x) and `fast` (answers 2 x)."""
    engines = [factor_engine("slow", 1), factor_engine("fast", 2)]

    def run(story: Callable[[Heated], Coroutine[Any, Any, None]], **ladder: Any) -> None:
        async def main() -> None:
            world = Heated(engines, {**LADDER, **ladder})
            await story(world)
            await world.accelerators.close(5)

        asyncio.run(main())

    yield run
    for engine in engines:
        engine.close()


SAMPLES = ramp().samples


def test_over_a_made_up_ramp_it_steps_down_once_and_returns_once(heated: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: Heated) -> None:
        rungs: list[int] = []
        for second in range(len(SAMPLES)):
            rungs += world.look(reading_of(*SAMPLES[: second + 1]), second + 1)
        assert [before != after for before, after in zip(rungs, rungs[1:])].count(True) == 2
        assert (rungs[2 * 24], rungs[2 * 26], rungs[2 * 60], rungs[-1]) == (0, 1, 1, 0)
        assert list(world.view().switches.values()) == [1, 1]

    heated(story, dwell_s=5, return_dwell_s=10, most_return_dwell_s=60)
    down, back = [each.getMessage() for each in caplog.records if each.name.endswith("degradation")]
    assert down == "model slow steps down from slow/3 to fast/3: headroom 9.6 °C, limit 10"
    assert back.startswith("model slow returns from fast/3 to slow/3: calm for 10 s: not throttled; headroom ")


def test_requests_run_where_they_are_sent_and_the_answer_says_where(heated: Any) -> None:
    async def story(world: Heated) -> None:
        hot, cool = reading_of(*SAMPLES[:35]), reading_of(*SAMPLES[:5])
        assert await world.ask() == (1.0, "")
        world.look(hot, 3)
        assert await world.ask() == (2.0, "fast/3")
        world.look(cool, 6)
        assert await world.ask() == (1.0, "")
        view = world.view()
        assert (view.rungs, view.rung) == (("slow/3", "fast/3"), 0)
        assert [each.success for each in view.totals] == [2, 1]
        assert world.models.find("slow").statistics.totals.success == 3
        assert world.models.find("fast").statistics.totals.success == 0

    heated(story)


def test_a_silent_board_neither_leads_down_nor_back(heated: Any) -> None:
    async def story(world: Heated) -> None:
        nothing = BoardReading(0)
        assert set(world.look(nothing, 20)) == {0}
        world.look(reading_of(*SAMPLES[:35]), 25)
        assert set(world.look(nothing, 100)) == {1}

    heated(story)


def test_refusals_lead_down_and_are_counted_where_they_came_to_be(heated: Any) -> None:
    async def story(world: Heated) -> None:
        model = world.models.find("slow")
        world.look(BoardReading(0), 3)
        for _ in range(40):
            model.home.work.statistics.add_failure("REJECTED", 0)
        world.look(BoardReading(0), 4)
        view = world.view()
        assert (view.rung, view.why) == (1, "misses 1.000, limit 0.1")
        assert [each.failures["REJECTED"] for each in view.totals] == [40, 0]

    heated(story, headroom_c=None, miss_share=0.1)


def test_without_all_its_rungs_a_model_goes_without_its_ladder_until_they_come(heated: Any, caplog: Any) -> None:
    async def story(world: Heated) -> None:
        world.look(reading_of(*SAMPLES[:35]), 3)
        fast = world.models.remove("fast")
        assert world.models.find("slow").ladder is None
        world.models.move(world.models.find("slow"), world.models.find("slow").home)  # any change of the table
        assert await world.ask() == (1.0, "")
        await fast.lent.idle()  # nothing of the ladder holds its engine any more
        world.models.put(fast)
        assert world.view().rung == 0
        world.look(reading_of(*SAMPLES[:35]), 9)
        assert await world.ask() == (2.0, "fast/3")

    heated(story)
    said = [line for line in caplog.messages if "without its ladder" in line]
    assert said == ["model slow is served without its ladder until that changes: not loaded: fast"]


def test_rungs_that_gave_way_to_others_are_wanted_again_with_their_model(heated: Any) -> None:
    async def story(world: Heated) -> None:
        wanted: list[str] = []
        slow, fast = world.models.remove("slow"), world.models.remove("fast")
        world.models.absent["fast"] = Absence("gave way", demanded=lambda: wanted.append("fast"))
        assert wanted == []
        world.models.put(slow)
        assert (wanted, slow.ladder) == (["fast"], None)
        world.models.put(fast)
        assert world.view().rungs == ("slow/3", "fast/3")

    heated(story)


def test_another_version_goes_on_from_the_rung_where_the_one_before_was(heated: Any, factor_engine: Any) -> None:
    async def story(world: Heated) -> None:
        world.look(reading_of(*SAMPLES[:35]), 3)
        engine = factor_engine("slow", 3)
        serving = ServingTable(ladder=LadderTable(**LADDER))
        (anew,) = world.accelerators.add(prepared(engine, serving))
        before = world.models.put(anew)
        assert before is not None
        assert (await world.ask(), world.view().rung) == ((2.0, "fast/3"), 1)
        assert sum(world.view().switches.values()) == 1
        await world.models.ended(before)
        await world.accelerators.remove(before)
        world.look(reading_of(*SAMPLES[:35]), 6)
        assert await world.ask() == (2.0, "fast/3")
        await world.accelerators.close(5)
        engine.close()

    heated(story)


def test_while_the_process_of_a_rung_is_away_the_model_answers_itself(
    heated: Any, monkeypatch: Any, caplog: Any
) -> None:
    async def story(world: Heated) -> None:
        presence = Presence("model 'fast'")
        presence.serves((), 1.0)
        monkeypatch.setattr(world.models.find("fast").engine, "keeper", presence)
        watch_engines(world.models, world.ladders.settle)
        world.look(reading_of(*SAMPLES[:35]), 3)
        assert await world.ask() == (2.0, "fast/3")
        for hindrance, answer in (("its process has ended", (1.0, "")), ("", (2.0, "fast/3"))):
            presence.is_away(hindrance, 1.0)
            await asyncio.sleep(0)  # in which the loop hears of it
            assert (await world.ask(), world.view().rung) == (answer, 1)

    heated(story)
    assert "model slow runs on slow/3 while the process of fast/3 is away" in caplog.messages


def test_a_request_that_is_under_way_ends_where_it_began(gated: Any, factor_engine: Any) -> None:
    engines = [gated.engine, factor_engine("fast", 2)]

    async def main() -> None:
        world = Heated(engines, {**LADDER, "rungs": ["fast"]})
        first = asyncio.ensure_future(world.ask("gated"))
        await asyncio.get_running_loop().run_in_executor(None, gated.begun.acquire)
        world.look(reading_of(*SAMPLES[:35]), 3)
        model = world.models.find("gated")
        assert await world.ask("gated") == (2.0, "fast/3")
        assert (model.under_way.count, first.done()) == (1, False)
        gated.release()
        assert await first == (1.0, "")
        await world.models.idle()
        await world.accelerators.close(5)

    asyncio.run(main())
    for engine in engines:
        engine.close()


def test_a_rung_may_run_on_another_accelerator(factor_engine: Any) -> None:
    engines = [factor_engine("slow", 1), factor_engine("fast", 2)]
    engines[1].info = replace(engines[1].info, device="dla:0")  # made up: it runs on the CPU as the other does

    async def main() -> None:
        world = Heated(engines, LADDER)
        assert await world.ask() == (1.0, "")
        world.look(reading_of(*SAMPLES[:35]), 3)
        answers = await asyncio.gather(*(world.ask() for _ in range(5)))
        assert answers == [(2.0, "fast/3")] * 5
        model = world.models.find("slow")
        assert model.place.dispatcher is not model.home.dispatcher
        request = model.request({"x": ROW}, Schedule(), dict, lambda _: None, model.now_ns())
        assert model.runs_here(request) is False  # another accelerator than a CPU runs nothing on the loop's thread
        assert (model.cancel(request), model.pending) == (False, 0)
        world.models.remove("fast")
        assert await world.ask() == (1.0, "")
        await world.accelerators.close(5)

    asyncio.run(main())
    for engine in engines:
        engine.close()


def test_a_rung_with_another_signature_ends_a_start(tiny_engine: Any, factor_engine: Any) -> None:
    async def main() -> None:
        Heated([factor_engine("slow", 1), tiny_engine("fixed")], {"rungs": ["slow", "fixed"]})

    with pytest.raises(LadderError, match="rung 'fixed' of its ladder can't stand in for it: input 'x' is"):
        asyncio.run(main())


def test_a_server_that_stays_up_serves_a_model_without_a_ladder_that_does_not_fit(
    tiny_engine: Any, factor_engine: Any, caplog: Any
) -> None:
    engines = [factor_engine("slow", 1), tiny_engine("fixed")]

    async def main() -> None:
        world = Heated(engines, {"rungs": ["slow", "fixed"]}, is_staying_up=True)
        assert (await world.ask(), world.models.find("slow").ladder) == ((1.0, ""), None)
        await world.accelerators.close(5)

    asyncio.run(main())
    assert "model slow is served without its ladder until that changes" in caplog.text
    for engine in engines:
        engine.close()


LIBRARIES = {"http_transport": "aiohttp", "grpc_transport": "grpcio"}


@pytest.fixture(
    scope="module",
    params=[pytest.param({}, id="own"), pytest.param(LIBRARIES, id="libraries", marks=pytest.mark.slow)],
)
def ramped(serving: Any, factor_engine: Any, request: Any, tmp_path_factory: Any) -> Iterator[Any]:
    """A server of both models whose board heats up and cools down in six seconds, over and over."""
    engines = [factor_engine("slow", 1), factor_engine("fast", 2)]
    places = {"unix": str(tmp_path_factory.mktemp("ladder") / "s"), "board": f"replay@20:{RAMP}"}
    with serving(*engines, serving={"ladder": LADDER}, **places, **request.param) as server:
        yield server


def ladder(server: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in server.ask("GET", "/live").json["models"] if each["name"] == "slow")
    return found["ladder"]


def until(server: Any, rung: int) -> dict[str, Any]:
    while True:
        found = ladder(server)
        if found["rung"] == rung:
            return found


def test_a_server_under_replayed_heat_steps_down_and_returns_when_cool(ramped: Any, good_head: Any) -> None:
    before = until(ramped, 0)["switches"]
    hot = until(ramped, 1)
    assert (hot["name"], hot["switches"], "headroom" in hot["why"] or "throttled" in hot["why"]) == (
        "fast/3", before + 1, True
    )  # fmt: skip
    answer = ramped.infer("slow", good_head(), ROW.tobytes())
    assert (answer.json["model_name"], answer.json["parameters"]) == ("slow", {"edge_runtime_rung": "fast/3"})
    cool = until(ramped, 0)
    assert (cool["switches"], "calm" in cool["why"]) == (before + 2, True)


def test_own_clients_are_answered_on_every_rung_over_every_transport(ramped: Any) -> None:
    with Client(f"http://{ramped.bound.http}") as http, Client(f"grpc://{ramped.bound.grpc}") as grpc:
        for rung, factor in ((1, 2), (0, 1)):
            until(ramped, rung)
            for client in (http, grpc):  # both ask again and again by the same message, which the server knows
                values = [client.infer("slow", {"x": ROW})["y"][0, 0] for _ in range(3)]
                assert factor in values
                assert set(values) <= {1, 2}


def test_the_lane_of_shared_memory_stays_with_the_model_itself(ramped: Any) -> None:
    with Client(f"unix://{ramped.bound.unix}") as client, client.frames("slow", {"x": (1, 4)}, count=1) as frames:
        until(ramped, 1)
        frames[0].inputs["x"][:] = ROW
        frames[0].run()
        assert frames[0].outputs["y"][0, 0] == 1


def test_triton_s_client_finds_the_rung_among_the_parameters_of_the_answer(ramped: Any) -> None:
    with triton.InferenceServerClient(ramped.bound.grpc) as client:
        asked = triton.InferInput("x", [1, 4], "FP32")
        asked.set_data_from_numpy(ROW)
        until(ramped, 1)
        hot = client.infer("slow", [asked]).get_response()
        until(ramped, 0)
        cool = client.infer("slow", [asked]).get_response()
    assert (hot.parameters["edge_runtime_rung"].string_param, dict(cool.parameters)) == ("fast/3", {})
    assert (hot.model_name, hot.model_version) == (cool.model_name, cool.model_version) == ("slow", "3")


def test_its_metrics_tell_rungs_and_switches(ramped: Any) -> None:
    until(ramped, 1)
    lines = [line for line in ramped.ask("GET", "/metrics").body.decode().splitlines() if "_ladder_" in line]
    of_model = 'model="slow",version="3"'
    switched = f'edge_runtime_ladder_switches_total{{{of_model},from="slow/3",to="fast/3",reason='
    assert any(line.startswith(switched) for line in lines)
    for rung in ("slow/3", "fast/3"):
        assert any(
            line.startswith(f'edge_runtime_ladder_missed_total{{{of_model},rung="{rung}",how="late"}}')
            for line in lines
        )
    assert not [line for line in lines if 'model="fast"' in line]
