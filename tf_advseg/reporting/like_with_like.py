"""Which models of a run may be compared: averaged weights with averaged ones, plain with plain.

A run that averages its weights (Durall et al. 2019, section 3.4) shows every model twice. Averaged
weights of a method against the last ones of a control would give the method what averaging does
without any discriminator (the paper's own "+1.0"). So the method stands against the control of its
own kind, and averaging against the same training without it.
"""
AVERAGED = ' + SWA'  # what a model's name ends with where its weights are averages over training


def is_averaged(name):
    """Whether a column's name is that of averaged weights."""
    return str(name).endswith(AVERAGED)


def plain(name):
    """A column's name without the mark of averaged weights; None stays None."""
    return name[:-len(AVERAGED)] if name is not None and is_averaged(name) else name


def pairs(columns, subject, control):
    """The method against its control, of each kind that both have.

    Args:
      columns: {model: summary or None}; what is None or empty is not there.
      subject, control: columns of either kind; None as control gives no pair.

    Returns:
      [(model, its baseline)], plain before averaged.
    """
    if control is None or plain(subject) == plain(control):
        return []
    both = [(plain(subject) + mark, plain(control) + mark) for mark in ('', AVERAGED)]
    return [pair for pair in both if _has(columns, pair)]


def averaging(columns, subject, control):
    """The averaged weights against the plain ones of the same training.

    Args:
      columns, subject, control: see `pairs`.

    Returns:
      [(model + ' + SWA', model)], the control's before the method's.
    """
    names = dict.fromkeys(plain(name) for name in (control, subject) if name is not None)
    return [(name + AVERAGED, name) for name in names if _has(columns, (name + AVERAGED, name))]


def chosen(columns, subject, control):
    """The one pair that a page's columns of gains are about.

    Args:
      columns, subject, control: see `pairs`.

    Returns:
      (subject, control): of the subject's kind where both have it, else of the kind that both
      have. Where the control alone was trained and averaged, its averaged weights stand against
      its plain ones. None as control where only unlike models are there.
    """
    found = pairs(columns, subject, control)
    if found:
        return next((pair for pair in found if pair[0] == subject), found[-1])
    if plain(subject) == plain(control):
        return subject, plain(control)
    there = _has(columns, (subject, control))
    return subject, None if there and is_averaged(subject) != is_averaged(control) else control


def _has(columns, names):
    return all(columns.get(name) not in (None, {}) for name in names)
