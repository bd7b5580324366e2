"""The tests. Annotations are checked in all of them."""

import functools


def checked(function):
    """Checks the annotations of `function` with beartype, which examines them at the first call: most functions of a
    test process are never called.
    """
    check = None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal check
        if check is None:
            from beartype import beartype

            check = beartype(function)
        return check(*args, **kwargs)

    return call
