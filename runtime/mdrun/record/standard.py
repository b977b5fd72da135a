"""The standard faults: what a rig must survive, and what must hold while it does.

Made for a recording of 20 s (`mdrun record --seconds 20`) with a thermal camera of 9 Hz, the default limits of
pairing (skew 60 ms, age 250 ms) and a ladder whose second engine needs no thermal image.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StandardFault:
    """One replay and its promise.

    Attributes:
        name: short, unique.
        query: what stands behind `replay://RUN?`.
        holds: what must be true of the results.
    """

    name: str
    query: str
    holds: str


STANDARD = (
    StandardFault(
        "none",
        "",
        "every visible frame has a result; no engine switch once both cameras run, no drop; twice the same bytes",
    ),
    StandardFault(
        "thermal_pulled",
        "kill_thermal=8s-12s",
        "from 100 ms after 8 s until 12 s no result is measured: held for 250 ms, then absent because lost; "
        "measured again before 13 s",
    ),
    StandardFault(
        "thermal_pulled_for_good",
        "kill_thermal=8s-",
        "every visible frame still has a result; none is measured after 8.1 s",
    ),
    StandardFault(
        "thermal_absent_at_start",
        "kill_thermal=0s-5s",
        "degraded start: results from the first frame on, none measured before 5 s; measured before 6 s",
    ),
    StandardFault(
        "thermal_stalls",
        "drop_thermal=8s-12s",
        "stalled is told 3 frame periods after the last image; none measured 60 ms and none held 250 ms after it; "
        "no shutter event; measured again before 13 s",
    ),
    StandardFault(
        "visible_pulled",
        "kill_visible=8s-12s",
        "no result from 8 s to 12 s and no invented one; results again with the first visible frame",
    ),
    StandardFault(
        "visible_stalls",
        "drop_visible=8s-12s",
        "stalled is told; no result meanwhile; tracks end after their time, not before",
    ),
    StandardFault(
        "both_pulled",
        "kill_visible=8s-12s&kill_thermal=8s-12s",
        "time goes on without any frame; both come back; nothing uncounted",
    ),
    StandardFault(
        "pulled_again_and_again",
        "kill_thermal=4s-4.5s,5s-5.5s,6s-6.5s,7s-7.5s",
        "the engine does not flap: no more switches than losses and returns; measured again before 8.5 s",
    ),
    StandardFault(
        "thermal_slow",
        "half_rate_thermal=5s-15s",
        "at 4.5 Hz frames are measured or held, never absent; no stall is told",
    ),
    StandardFault("visible_slow", "half_rate_visible=5s-15s", "as many results as visible frames came"),
    StandardFault(
        "clock_wrong",
        "skew=40ms",
        "the reported skew falls by 40 ms, nothing else changes but what is measured or held by it",
    ),
    StandardFault(
        "clock_very_wrong",
        "skew=-700ms",
        "nothing is measured or held: the limits of skew and age hold, and the reason is stale",
    ),
    StandardFault(
        "thermal_late",
        "delay_thermal=80ms",
        "capture times decide: no image of another moment is taken for this one; held at most, measured only where "
        "pairing waits (wait_ms)",
    ),
    StandardFault("network_jitter", "jitter=60ms", "every visible frame has a result, in capture order"),
    StandardFault(
        "shutter_told",
        "ffc=6s-7s,14s-15.5s&ffc_telemetry=yes",
        "no thermal image captured in one of the two events is measured or held; the reason is ffc; measured again "
        "within 1 s of each end",
    ),
    StandardFault(
        "shutter_untold",
        "ffc=6s-7s,14s-15.5s&ffc_telemetry=no",
        "the repeats are found: two events, of whose images none is held after they are; measured again within 1 s of "
        "each end",
    ),
    StandardFault(
        "shutter_often", "ffc_every=3s&ffc_telemetry=yes", "six events counted; the engine returns between them"
    ),
    StandardFault(
        "thermal_frozen",
        "freeze_thermal=4s-18s",
        "reason ffc, and from 10 s on stuck, for no shutter event lasts so long; measured again before 19 s",
    ),
    StandardFault("visible_frozen", "freeze_visible=6s-9s", "results go on; capture times rise"),
    StandardFault(
        "swapped",
        "swap=8s-12s",
        "no image of one camera is taken for the other's: the error tells what has changed; back before 13 s",
    ),
    StandardFault(
        "dark", "dark_visible=8s-12s", "every visible frame has a result; the gate, where there is one, tells"
    ),
    StandardFault("noisy", "noise_visible=20&noise_thermal=8", "every visible frame has a result"),
    StandardFault(
        "bumped", "shift=5px@8s", "the drift alarm comes within two looks of the monitor and names about 5 pixels"
    ),
    StandardFault(
        "bad_day",
        "seed=3&skew=-25ms&delay_thermal=40ms&jitter=20ms&kill_thermal=4s-6s&drop_thermal=9s-10s&ffc=12s-13s"
        "&kill_visible=15s-16s&dark_visible=17s-18s",
        "captured = results + drops; twice the same results",
    ),
)
