"""The program that runs user code, and the zygote it is forked from.

It lives in the user's environment, where nothing of ours is installed: standard library only.
"""
