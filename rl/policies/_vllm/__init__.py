"""What the vLLM policy is made of.

settings     the `policy.vllm:` section
payload      requests and answers of /v1/completions
endpoint     one server's control endpoints, which change between vLLM's releases
transport    many requests in flight, each at the least loaded server
launch       a server of our own: its command, its process group
keeper       the process that leads that group, and ends it when we are gone
weights      the trainer's weights under the checkpoint's names
routes       the ways of weights into vLLM
probe        the same log-probs on both sides?
worker       runs inside vLLM's worker processes
served, colocated    the two deployments
"""
