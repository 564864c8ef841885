"""Where alerts go: a notification block of Prefect, which its server keeps, and an address that needs no server, since it may be down.

RECSYS_ALERTS names the block, as `slack-webhook/on-call`. RECSYS_ALERTS_URL is a webhook, or an address of Apprise
(github.com/caronc/apprise), the library through which Prefect's blocks reach chats.
"""

import logging
import os
import re
import socket

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.logging.loggers import LogEavesdropper

from recsys.errors import ConfigError, RecsysError

CHANNEL = "RECSYS_ALERTS"
ADDRESS = "RECSYS_ALERTS_URL"

logging.getLogger("httpx").setLevel(logging.WARNING)  # else every address is logged, and that of a webhook is its password


def is_set() -> bool:
    """Whether anybody is told of anything."""
    return bool(os.environ.get(CHANNEL))


def gap() -> str:
    """What nobody is told of, as this environment is; empty where somebody is told of everything."""
    if not is_set():
        return f"Nobody is told of failures: {CHANNEL} is not set."
    return "" if os.environ.get(ADDRESS) else f"Nobody is told when the server is down: {ADDRESS} is not set."


def by_block(subject: str, text: str) -> None:
    """Send by the block, which the server has to give out. What stops that is raised."""
    block = _block(os.environ[CHANNEL])
    with block.raise_on_failure():
        block.notify(text, subject=subject)  # type: ignore[unused-coroutine]  # synchronous without a loop


def by_address(subject: str, text: str) -> None:
    """Send without any server of ours. What stops that is raised.

    The webhooks of Slack, Discord, Teams … are told by their addresses; another one gets JSON, with `title` and `message`.
    """
    from apprise import Apprise  # knows every chat there is, which takes its time

    address, services, log = os.environ[ADDRESS], Apprise(), logging.getLogger("apprise")
    log.disabled = True  # of an address that it does not know it says a part
    try:
        known = services.add(address) or services.add(re.sub(r"^http", "json", address))
    finally:
        log.disabled = False
    if not known:
        raise ConfigError(f"{ADDRESS} is nothing that a message can be sent to: write https://… of a webhook, or an address of Apprise.")
    with LogEavesdropper("apprise", level=logging.WARNING) as heard:
        sent = services.notify(title=subject, body=text)
    if not sent:
        raise RecsysError(heard.text() or "it was not taken.")


def send_test() -> str:
    """Send a message that asks for nothing to wherever alerts go, and say where; RecsysError where one of them cannot be sent."""
    ways = [(os.environ[CHANNEL], by_block)] if is_set() else []
    ways += [(f"the address of {ADDRESS}", by_address)] if os.environ.get(ADDRESS) else []
    if not ways:
        raise ConfigError(f"{CHANNEL} names no channel: export {CHANNEL}=slack-webhook/on-call, or the block that there is.")
    said, failed = list[str](), False
    for where, send in ways:
        try:
            send("recsys: a test", f"Alerts of {socket.gethostname()} arrive here. There is nothing to do.")
            said.append(f"Sent to {where}. Has it arrived?")
        except Exception as error:  # of a network, a chat, or the server
            said.append(f"The test could not be sent to {where}: {reason(error)}")
            failed = True
    if failed:
        raise RecsysError("\n".join(said))
    return "\n".join(filter(None, [*said, gap()]))


def reason(error: Exception) -> str:
    """An error as it is told: without addresses, of which that of a webhook is its password."""
    return re.sub(r"\w+://\S+", "…", f"{type(error).__name__}: {error}")


def _block(slug: str) -> NotificationBlock:
    kind, slash, name = slug.partition("/")
    if not (kind and slash and name):
        raise ConfigError(f"{CHANNEL}={slug!r} names no block: write its type and its name, as in slack-webhook/on-call.")
    block = Block.load(slug)
    if not isinstance(block, NotificationBlock):
        raise ConfigError(f"{CHANNEL}={slug!r} is no notification block: `prefect block ls` lists those that there are.")
    return block
