"""The nouns of Flash: frozen values and pure functions, no I/O, nothing but the standard library.

hardware    graphics cards, CPU sizes, data centres: enums that know their facts
value       what immutable configuration classes have in common
volumes     network volumes, pod templates, variables
resources   what a user declares: the eight classes
endpoint    what that means to an engine: EndpointSpec, PoolSpec, their keys and ids
resolve     from the one to the other
job         statuses, states and their transitions, policy, ids, what follows a failure or a loss
output      JobOutput: what a call on a queue returns
operators   how it stands for a value of any type
frameworks  what FastAPI and Pydantic are told about it
"""
