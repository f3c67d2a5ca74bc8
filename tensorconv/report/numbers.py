"""Numbers as people read them: with a prefix, as a share, as times fewer or more."""

from __future__ import annotations

SPACE = "\N{NO-BREAK SPACE}"  # no line ends between a number and its unit
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short_number(value: float, unit: str = "") -> str:
    r"""Return a number with three digits and a prefix.

    Parameters
    ----------
    value : float
        The number.
    unit : str
        What it is of.

    Returns
    -------
    str
        Such as "12.4 M".

    Examples
    --------
    >>> short_number(12_412_000), short_number(999_600), short_number(1_120_000, "B"), short_number(7)
    ('12.4\xa0M', '1.00\xa0M', '1.12\xa0MB', '7')
    """
    for factor, prefix in _PREFIXES:
        if value >= 0.9995 * factor:
            scaled = value / factor
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{SPACE}{prefix}{unit}"
    return f"{value:.3g}{SPACE}{unit}".rstrip(SPACE)


def share(after: float, before: float) -> str:
    r"""Return a part of a whole in percent.

    Parameters
    ----------
    after, before : float
        Part and whole.

    Returns
    -------
    str
        Such as "23.5 %"; "-" where there is no whole.

    Examples
    --------
    >>> share(47, 200), share(3, 1000), share(1, 0)
    ('23.5\xa0%', '0.3\xa0%', '-')
    """
    return f"{100 * after / before:.1f}{SPACE}%" if before else "-"


def times(before: float, after: float, less: str, more: str) -> str:
    """Return how many times less or more there is after than before.

    Parameters
    ----------
    before, after : float
        The numbers.
    less, more : str
        Words such as "fewer" and "more".

    Returns
    -------
    str
        Such as "4.3× fewer"; "unchanged" within half a percent.

    Examples
    --------
    >>> times(100, 23, "fewer", "more"), times(10, 11, "fewer", "more"), times(1000, 999, "smaller", "larger")
    ('4.3× fewer', '1.10× more', 'unchanged')
    """
    if not before or not after or abs(after / before - 1) < 0.005:
        return "unchanged" if before == after or (before and after) else "-"
    ratio, word = (before / after, less) if after < before else (after / before, more)
    return f"{ratio:.{2 if ratio < 1.25 else 1 if ratio < 99.95 else 0}f}× {word}"
