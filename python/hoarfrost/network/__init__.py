"""Networks as pure functions of their parameters, whatever library they were written in."""

from hoarfrost.network.apart import check_points_apart
from hoarfrost.network.base import Network, check_rows
from hoarfrost.network.function import FunctionNetwork
from hoarfrost.network.given import GivenModule, given_module
from hoarfrost.network.keyed import settle
from hoarfrost.network.keys import interned
from hoarfrost.network.linen import LinenNetwork, init_linen
from hoarfrost.network.modes import Call
from hoarfrost.network.named import JoinedNetwork, NamedNetwork, param_kinds
from hoarfrost.network.programs import NetworkProgram, PerNetwork
from hoarfrost.network.resolve import as_network
from hoarfrost.network.write import write_to_module

__all__ = [
    "Call",
    "FunctionNetwork",
    "GivenModule",
    "JoinedNetwork",
    "LinenNetwork",
    "NamedNetwork",
    "Network",
    "NetworkProgram",
    "PerNetwork",
    "as_network",
    "check_points_apart",
    "check_rows",
    "given_module",
    "init_linen",
    "interned",
    "param_kinds",
    "settle",
    "write_to_module",
]
