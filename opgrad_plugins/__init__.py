"""The operators that come with opgrad, one file for each family.

Nothing here is privileged: each file imports only public names of opgrad, and each operator is
found through its entry point, as a third party's is.
"""
