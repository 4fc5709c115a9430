"""A Python program becomes a graph, and a remark about its output finds the parameter behind it.

python examples/trace_a_program.py
"""

from engine import trace

rate = trace.param(0.19, name="rate", description="value added tax", ge=0, le=1)
greeting = trace.param("Dear customer", name="greeting", description="how a letter begins")


@trace.node
def total(net: float, rate: float) -> float:
    """The price with tax."""
    return round(net * (1 + rate), 2)


@trace.node
def letter(greeting: str, amount: float) -> str:
    """The letter that goes out."""
    return f"{greeting}, you owe us {amount} EUR."


def invoice(net_prices):
    amounts = [total(net, rate) for net in net_prices]
    return letter(greeting, sum(amounts))


print("outside a recording:", invoice([10.0, 20.0]))

with trace.record() as graph:
    text = invoice([10.0, 20.0])

print("inside:             ", text.value)
print()
print(graph.render("text"))
for param, subgraph in trace.backward(text, "The sum is too high.").items():
    print()
    print(f"what a reader is told about {param.name}:")
    print(subgraph.code())
