"""What training came to, put into an NNX module that the user holds."""

from __future__ import annotations

from typing import Any

from hoarfrost.checks import is_choice, shown
from hoarfrost.errors import InvalidArgumentError
from hoarfrost.network import write_to_module
from hoarfrost.prob_model.joint import Joint
from hoarfrost.prob_model.state import JointState


def write_state(joint: Joint, state: Any, module: Any, name: str) -> None:
    """Put the parameters and running statistics of one network into a module."""
    if not isinstance(state, JointState):
        raise InvalidArgumentError(
            f"state is a {type(state).__name__}; give what sample() or state.get() returns, or "
            "nothing for the state that training left"
        )
    if not is_choice(name, joint.modules):
        raise InvalidArgumentError(
            f"name is {shown(name)}; the networks of this model are {', '.join(joint.modules)}"
        )
    own = joint.modules[name]
    mutable = (state.mutable or {}).get(name, {})
    write_to_module(module, own.of_module(own.network.join(state.params[name], mutable)))
