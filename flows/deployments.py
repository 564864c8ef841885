"""Where a run's parameters come from: a deployment of `deployments/prefect.yaml`, or a file with the same groups, and overrides."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml
from cronsim import CronSim, CronSimError

from recsys import windows
from recsys.config import Evaluation, Night, expand
from recsys.errors import ConfigError
from recsys.validation import closest, validated

OF_THE_SCHEDULE = ("catch_up",)  # what a run by hand has nothing to do with
FILE = Path(__file__).parents[1] / "deployments" / "prefect.yaml"


def deployed(name: str, flow: str = "nightly") -> dict[str, Any]:
    """The configuration of a deployment of the flow, or else of one of `nightly`; ConfigError with the names that there are."""
    written = _mapping(FILE)["deployments"]
    found = {d["name"]: d["parameters"] for of in ("nightly", flow) for d in written if d["entrypoint"].endswith(f":{of}")}
    if name not in found:
        raise ConfigError(f"There is no deployment {name!r} in {FILE}. {closest(name, found)}")
    return {parameter: value for parameter, value in found[name].items() if parameter not in OF_THE_SCHEDULE}


def of_store(folder: Path) -> list[str]:
    """Names of the deployments of `nightly` whose store this folder is."""
    nights = [d for d in _mapping(FILE)["deployments"] if d["entrypoint"].endswith(":nightly")]
    return [d["name"] for d in nights if _folder(d["parameters"].get("store", "store")) == _folder(str(folder))]


def schedules() -> dict[str, list[dict[str, Any]]]:
    """The schedules of every deployment, by its name as `nightly/demo`."""
    return {f"{d['entrypoint'].rpartition(':')[2]}/{d['name']}": d.get("schedules") or [] for d in _mapping(FILE)["deployments"]}


def due(folder: Path, since: datetime, now: datetime) -> list[datetime]:
    """Nights for which the schedules of the store's nights had a run between two moments, both included, oldest first."""
    on = [schedule for name in of_store(folder) for schedule in schedules()[f"nightly/{name}"] if schedule.get("active", True)]
    found: set[datetime] = set()
    for schedule in on:
        with suppress(CronSimError):  # Prefect knows other kinds of schedule, which are nobody's night
            before = (since - timedelta(minutes=1)).astimezone(ZoneInfo(schedule.get("timezone", "UTC")))
            times = takewhile(lambda time: time <= now, CronSim(schedule.get("cron", ""), before))
            found |= {windows.midnight(time) for time in times if time >= since}
    return sorted(found)


def flows() -> list[str]:
    """Names of the flows that are deployed."""
    return sorted({d["entrypoint"].rpartition(":")[2] for d in _mapping(FILE)["deployments"]})


def queues() -> list[tuple[str, str | None]]:
    """Work pools and queues of the deployments, each once; the pool's own queue has no name."""
    pools = [d["work_pool"] for d in _mapping(FILE)["deployments"]]
    return list(dict.fromkeys((pool["name"], pool.get("work_queue_name")) for pool in pools))


def read(path: Path) -> dict[str, Any]:
    """The parameters in a configuration file. Where it names no store, the night's is `store/` and the file's name."""
    return {"store": f"store/{path.stem}", **_mapping(path)}


def override(parameters: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The parameters with `"training.max_epochs=3"` set in them; values are YAML.

    >>> override({"seed": 1, "data": {"demo": {}}}, ["data.demo.n_users=50", "evaluation.k=[5, 10]"])
    {'seed': 1, 'data': {'demo': {'n_users': 50}}, 'evaluation': {'k': [5, 10]}}
    """
    changed = deepcopy(dict(parameters))
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not all(name.split(".")):
            raise ConfigError(f"--set {setting!r} sets nothing: write group.field=value, as in training.max_epochs=3.")
        *groups, field = name.split(".")
        place = changed
        for group in groups:
            if place.get(group) is None:
                place[group] = {}
            place = place[group]
            if not isinstance(place, dict):
                raise ConfigError(f"--set {setting!r}: {group} is a value, {place!r}, and has no fields.")
        place[field] = _value(text, setting)
    return changed


def night(parameters: Mapping[str, Any]) -> Night:
    """The whole configuration, checked; ConfigError lists every field that is wrong and, of misspelt ones, the closest names."""
    return validated(Night, {name: value for name, value in parameters.items() if name != "store"})


def unpublished(parameters: Mapping[str, Any]) -> Night:
    """The same of a flow that publishes nothing, and asks no gate: what is measured first stands where the gate would ask for it."""
    evaluation = validated(Evaluation, parameters.get("evaluation") or {}, "evaluation")
    rest = {name: value for name, value in parameters.items() if name not in ("promotion", "publishing", "backtest", "as_of")}
    return night({**rest, "promotion": {"metric": evaluation.metrics[0], "k": evaluation.k[0]}})


def differences(ours: Any, theirs: Any, name: str = "") -> Iterator[str]:
    """Every field in which one JSON value differs from another: `"training.max_epochs: 3 (deployed: 20)"`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours:
            yield from differences(ours[key], theirs.get(key), f"{name}.{key}" if name else key)
    elif ours != theirs:
        yield f"{name}: {ours!r} (deployed: {theirs!r})"


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} has no groups: write data:, model: … with their fields, as in deployments/prefect.yaml.")
    return found


def _folder(store: str) -> Path:
    with suppress(ConfigError):  # a variable that is not set here: nobody's folder by that name
        store = expand(store)
    return Path(store).resolve()


def _value(text: str, setting: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {setting!r}: the value is no YAML. Quote it, as in 'name=\"a: b\"'.") from None
