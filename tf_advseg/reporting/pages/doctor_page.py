"""What the doctor found, as text for a terminal and as ONE self-contained HTML file."""
from tf_advseg.core import files
from tf_advseg.data.doctor.findings import SEVERITIES, TITLES
from tf_advseg.reporting import contact_sheet, tables
from tf_advseg.reporting.pages import page

_FEW, _MANY = 5, 200  # findings of a kind that are shown on a terminal, and on the page
_ROWS = 40


def counted(number, word):
    """'1 error', '3 errors'."""
    return f'{number} {word}' + ('' if number == 1 else 's')


def headline(diagnosis):
    """'2 errors, 1 warning, 0 notes'."""
    return ', '.join(counted(diagnosis.count(severity), severity) for severity in SEVERITIES)


def summary(diagnosis):
    """What was examined: name, images, splits."""
    if diagnosis.spec is None:
        return f'{diagnosis.source}: could not be opened'
    parts = ', '.join(f'{name} {len(ids)}' for name, ids in diagnosis.splits.items())
    lost = len(diagnosis.facts) - diagnosis.counted()
    return (f'{diagnosis.spec.name}: {counted(len(diagnosis.facts), "image")}'
            + (f', {lost} of them could not be counted,' if lost else '')
            + f' in {diagnosis.spec.num_classes} classes; {parts or "no split"}')


def text(diagnosis, few=_FEW):
    """The findings as text: one line each, the worst first, `few` of a kind.

    Args:
      diagnosis: data.doctor.examination.Diagnosis.
      few: how many of a kind are shown.
    """
    lines = [summary(diagnosis)]
    shares = class_table(diagnosis)
    if shares is not None:
        lines += ['', tables.to_text(shares)]
    for (severity, kind), found in diagnosis.groups().items():
        lines += ['', f'{severity}: {TITLES[kind]} ({len(found)})']
        lines += [f'  {finding.message}' for finding in found[:few]]
        if len(found) > few:
            lines.append(f'  … and {len(found) - few} more: --output=NAME.html or .json has all')
        lines += [f'  -> {advice}' for advice in _advice(found)]
    return '\n'.join([*lines, '', headline(diagnosis)])


def class_table(diagnosis):
    """tables.Table: each class's share of the labelled pixels and its images, split by split.

    None where no label could be read. The last row is what is ignored. Of more classes than a
    page shows at once only those that are there have a row; findings name the others.
    """
    if not diagnosis.counted():
        return None
    shares = diagnosis.class_shares()
    header = ['class', *(f'{name}: {what}' for name in shares for what in ('pixels', 'images'))]
    rows = [(name, *(entry for pixels, images, _ in shares.values()
                     for entry in (f'{100 * pixels[number]:.2f} %', images[number])))
            for number, name in enumerate(diagnosis.spec.class_names)
            if diagnosis.spec.num_classes <= _ROWS or any(p[number] for _, p, _ in shares.values())]
    rows.append(('(ignored)', *(entry for _, _, ignored in shares.values()
                                for entry in (f'{100 * ignored:.2f} %', ''))))
    return tables.plain_table(header, rows)


def write(path, diagnosis, classes=(), suspects=()):
    """Writes the page; the file is whole or not there.

    Args:
      path: the HTML file.
      diagnosis: data.doctor.examination.Diagnosis.
      classes: (class name, uint8 [H, W, 3]) pairs: a contact sheet for each.
      suspects: (kind of finding, note, uint8 [H, W, 3]) triples.

    Raises:
      UserError: it cannot be written.
    """
    with files.atomic_file(path, 'w') as file:
        file.write(render(diagnosis, classes, suspects))


def render(diagnosis, classes=(), suspects=()):
    """The page as a string; see `write`."""
    shares = class_table(diagnosis)
    return page.render(
        'doctor.html',
        title=f'Examination of {diagnosis.spec.name if diagnosis.spec else diagnosis.source}',
        summary=summary(diagnosis), source=diagnosis.source, headline=headline(diagnosis),
        groups=[_group(*key, found) for key, found in diagnosis.groups().items()],
        shares=None if shares is None else tables.to_html(shares),
        suspects=[(TITLES[kind], _sheet(note, sheet)) for kind, note, sheet in suspects],
        classes=[_sheet(name, sheet) for name, sheet in classes])


def _group(severity, kind, found):
    """The findings of a kind for the template; all but the first few are folded away."""
    lines = [finding.message for finding in found[:_MANY]]
    if len(found) > _MANY:
        lines.append(f'… and {len(found) - _MANY} more: a .json has all')
    return {'title': TITLES[kind], 'severity': severity, 'number': len(found),
            'first': lines[:_FEW], 'folded': lines[_FEW:], 'advice': _advice(found)}


def _advice(found):
    """The different pieces of advice of findings, each once."""
    return list(dict.fromkeys(finding.advice for finding in found if finding.advice))


def _sheet(caption, sheet):
    return page.figure(caption, contact_sheet.encode_jpeg(sheet), sheet.shape[1])
