"""Lists of what is alike."""

__all__ = ["alike"]


def alike(items, key):
    """Return lists of items with equal keys, in order; keys need not be hashable."""
    groups = []
    for item in items:
        own = key(item)
        for known, members in groups:
            if known == own:
                members.append(item)
                break
        else:
            groups.append((own, [item]))
    return [members for _, members in groups]
