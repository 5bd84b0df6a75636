"""The nouns of Flash: frozen values and pure functions, no I/O, nothing but the standard library.

hardware    graphics cards, CPU sizes, data centres: enums that know their facts
resources   what a user declares: the eight classes, volumes, templates
endpoint    what that means to an engine: EndpointSpec, PoolSpec, their keys and ids
resolve     from the one to the other
job         statuses, internal states and their transitions, policy, ids, what follows a failure or a loss
output      JobOutput: what a call on a queue returns
"""
