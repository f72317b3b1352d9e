"""Sending what waits: each message once by each channel, a channel that fails less and less often, a message for a day at most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.notices.channels import TIMEOUT, Channel
from dlc_assets.notices.told import Told, Trouble, Unsent

DAY = 86_400.0
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # s between tries of a channel that fails


def send_waiting(
    told: Told,
    channels: Mapping[str, Channel],
    *,
    now: float,
    seconds: float,
    save: Callable[[], None],
    log: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Send what waits in *told*, starting none that could last beyond *seconds*; return how many were sent.

    After each message *save* is called, so that a process that is killed repeats one at most. Messages for channels that lab.yaml does
    not name any more are dropped.
    """
    ends = clock() + seconds
    told.unsent = [each for each in told.unsent if each.channel in channels]
    told.trouble = {name: each for name, each in told.trouble.items() if name in channels}
    sent = 0
    # Those that were tried less often come first: one that a server refuses does not hold up the others.
    for unsent in sorted(told.unsent, key=lambda each: (each.attempts, each.message.made)):
        if unsent not in told.unsent:  # given up a moment ago, with another one of its channel
            continue
        trouble = told.trouble.get(unsent.channel)
        if trouble is not None and trouble.next_try > now:
            continue
        if clock() + TIMEOUT > ends:
            break
        try:
            remark = channels[unsent.channel].send(unsent.message)
        except DlcAssetsError as error:
            _failed(told, unsent, str(error), now, log)
        else:
            told.unsent.remove(unsent)
            told.trouble.pop(unsent.channel, None)
            sent += 1
            if remark:
                log(f"{unsent.channel}: {remark}")
        save()
    return sent


def _failed(told: Told, unsent: Unsent, why: str, now: float, log: Callable[[str], None]) -> None:
    before = told.trouble.get(unsent.channel)
    attempts = 1 if before is None else before.attempts + 1
    pause = min(_FIRST_PAUSE * 2 ** min(attempts - 1, 10), _LONGEST_PAUSE)
    told.trouble[unsent.channel] = Trouble(attempts, why, now + pause)
    unsent.attempts += 1
    log(f'"{unsent.message.subject}" could not be sent by {unsent.channel}: {why}')
    for each in [each for each in told.unsent if each.channel == unsent.channel]:
        if each.attempts and now - each.message.made >= DAY:
            told.give_up(each, why, now)
