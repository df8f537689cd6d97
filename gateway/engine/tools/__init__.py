"""Tools that the gateway runs itself, between two rounds of a model.

What a tool of one's own needs is here: `from gateway.engine.tools import ToolContext, ToolFailed`.
"""

from gateway.engine.tools.tool import ToolContext, ToolFailed

__all__ = ["ToolContext", "ToolFailed"]
