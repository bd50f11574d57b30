"""The doctor: examines a whole data set, image by image, and says all that is wrong with it.

The readers stop at the first mistake; this goes on. What it finds is data (findings.py), which
reporting/pages/doctor_page.py turns into text and a page.
"""
import collections
import concurrent.futures
import dataclasses

from tf_advseg.core.errors import UserError
from tf_advseg.core.progress import Progress
from tf_advseg.data.doctor import checks
from tf_advseg.data.doctor import facts as doctor_facts
from tf_advseg.data.doctor.findings import SEVERITIES, TITLES, Finding
from tf_advseg.data.readers import READERS, folder, layouts, loose, make_reader, require_options
from tf_advseg.data.records import record_workers
from tf_advseg.data.spec import DatasetSpec

# Readers whose data sets say themselves which images are in several splits.
_OWN = ('folder',)


@dataclasses.dataclass
class Diagnosis:
    """What is known of a data set.

    Attributes:
      source: what was examined, as the user wrote it.
      reader: a `readers.base.Reader` of the images; None where none could be made.
      spec: the DatasetSpec, None where it could not be found.
      splits: dict split name -> image ids.
      facts: dict image id -> doctor_facts.ImageFacts.
      findings: [findings.Finding], the worst first.
    """
    source: str
    reader: object
    spec: DatasetSpec
    splits: dict
    facts: dict
    findings: list

    def count(self, severity):
        """How many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def counted(self):
        """How many images could be counted: those that nothing is wrong with."""
        return sum(one.counted for one in self.facts.values())

    def rename(self, name):
        """Renames files: `name` is a function text -> text for messages and names of files."""
        self.source = name(self.source)
        self.findings = [dataclasses.replace(
            finding, message=name(finding.message), files=tuple(map(name, finding.files)))
            for finding in self.findings]

    def groups(self):
        """{(severity, kind): [Finding]}, the worst first."""
        groups = collections.OrderedDict()
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        return groups

    def class_shares(self):
        """dict split -> (shares [C] of the labelled pixels, images [C], share ignored).

        Of the images that could be counted; a split without labelled pixels has shares of 0.
        """
        result = {}
        for name, ids in self.splits.items():
            counts = checks.pixel_counts(self.facts, ids)
            classes = counts[:self.spec.num_classes]
            shown = sum((self.facts[i].counts[:self.spec.num_classes] > 0).astype(int)
                        for i in ids if i in self.facts and self.facts[i].counted)
            result[name] = (classes / max(classes.sum(), 1), shown + classes * 0,
                            (counts.sum() - classes.sum()) / max(counts.sum(), 1))
        return result

    def to_json(self):
        """The diagnosis as plain values; findings as in `Finding.to_json`."""
        shares = {} if self.spec is None else {
            split: {'pixels': dict(zip(self.spec.class_names, map(float, pixels))),
                    'images': dict(zip(self.spec.class_names, map(int, images))),
                    'ignored': float(ignored)}
            for split, (pixels, images, ignored) in self.class_shares().items()}
        return {'source': self.source, 'dataset': None if self.spec is None else self.spec.name,
                'splits': {name: len(ids) for name, ids in self.splits.items()},
                'counts': {severity: self.count(severity) for severity in SEVERITIES},
                'classes': shares,
                'findings': [finding.to_json() for finding in self.findings]}


def is_documented(name):
    """Whether a reader's splits are its data set's own, so that shared images are no mistake."""
    return name in READERS and name not in _OWN


def examine_source(name, source, options=None, show=True, workers=None):
    """Examines raw data, also where their reader refuses them.

    Args:
      name: a reader, see `readers.make_reader`; None for 'folder', which the findings then say
        was assumed where the data are of another layout.
      source: the folder; None for generated data.
      options: dict of the reader's options.
      show: whether to show progress.
      workers: see `examine`.

    Returns:
      Diagnosis.

    Raises:
      UserError: there is no such reader or option, or nothing that could be examined.
    """
    assumed, name = name is None, name or _OWN[0]
    require_options(name, options or {})
    try:
        reader = make_reader(name, source, **(options or {}))
        splits = reader.splits()
    except UserError as error:
        return _examine_refused(error, name, source, options, show, workers, assumed)
    return examine(reader, splits, str(source or name), is_documented(name), show=show,
                   workers=workers)


def _examine_refused(refusal, name, source, options, show, workers, assumed=False):
    """Diagnosis of data whose reader raised `refusal`; `assumed`: nobody had named this reader."""
    if name not in loose.LAYOUTS or source is None:
        return Diagnosis(str(source), None, None, {}, {}, [
            Finding('error', 'refused', str(refusal), (), 'mend this; more may come to light')])
    try:
        reader = loose.LooseReader(name, source, options)
    except (UserError, TypeError, ValueError):  # no folders, or options that mean nothing
        if assumed and layouts.guess(source):
            return _assumed(source, str(refusal))
        raise refusal from None
    if (assumed and reader.lone_images and not reader.splits() and not reader.lone_labels
            and not folder.other_label(reader.lone_images[0][1])):
        return _assumed(source, f'none of its {len(reader.lone_images)} images has a '
                        'label PNG of its name in labels/')
    found = list(_pairs(reader))
    diagnosis = examine(reader, reader.splits(), str(source), True, found, show, workers)
    known = diagnosis.count('error')
    diagnosis.findings.insert(known, Finding(
        'note' if known else 'error', 'refused', str(refusal), (),
        'the reader stops at the first thing it finds; all others are above' if known else ''))
    diagnosis.findings = _sorted(diagnosis.findings)
    return diagnosis


def _assumed(source, why):
    """Diagnosis of what was read as `folder` for want of a name, and is none."""
    looks = layouts.guess(source)
    advice = (f'--dataset={looks}' if looks else 'add the labels; an official data set is named '
              'with --dataset')
    return Diagnosis(str(source), None, None, {}, {}, [Finding(
        'error', 'assumed', f'the layout "{_OWN[0]}" was assumed, as --dataset was not given, but '
        + why + (f'; it looks like {looks}' if looks else ''), (), advice)])


def _pairs(reader):
    """What `loose.LooseReader` could not pair up. Images no list names are no mistake."""
    for kind, lone, has, advice in (
            ('lone_image', reader.lone_images, 'has no label', 'add the label or remove the '
             'image'),
            ('lone_label', reader.lone_labels, 'has no image', 'add the image or remove the '
             'label')):
        if reader.listed and lone:
            yield Finding('note', kind, f'{len(lone)} files, as {lone[0][0]}; no matter where no '
                          'list names them', tuple(str(path) for path, _ in lone))
            continue
        for path, other in lone:
            there = folder.other_label(other) if kind == 'lone_image' else ''
            near = folder.label_of_other_name(other) if kind == 'lone_image' else ''
            yield Finding('error', 'label_format' if there else kind, f'{path}: {has} '
                          f'{other}{there or near}', (str(path),), '' if there or near else advice)
    for path, other in reader.twins:
        yield Finding('error', 'twin', f'{path}: has the same name as {other.name}',
                      (str(path), str(other)), 'keep one of them')
    for path in reader.misnamed:
        yield Finding('error', 'misnamed', f'{path}: the name is not UTF-8', (str(path),),
                      'rename it (a whole folder: convmv -r -f latin1 -t utf8 --notest FOLDER)')
    for path, image_id in reader.unlisted:
        yield Finding('error', 'unlisted', f'{path}: lists "{image_id}", which has no image '
                      'and label', (str(path),), 'names are without suffix; correct the list')


def examine(reader, splits, source, documented=False, findings=(), show=True, workers=None):
    """Examines every image of a reader.

    Args:
      reader: a `readers.base.Reader`.
      splits: dict split name -> image ids.
      source: what is examined, for reports.
      documented: see `doctor_checks.check`.
      findings: what is known already.
      show: whether to show progress.
      workers: how many images are looked at at a time; None for one a core.

    Returns:
      Diagnosis.
    """
    ids = list(dict.fromkeys(image_id for part in splits.values() for image_id in part))
    findings = list(findings)
    if not ids:
        findings.append(Finding('error', 'empty', f'{source}: no image with a label'))
    workers = workers or record_workers.default_workers()
    facts = {}
    with Progress(len(ids), f'examining {reader.spec.name}', enabled=show) as bar, \
            record_workers.part_source(reader, workers, len(ids),
                                       doctor_facts.read_facts, resumes=False) as read, \
            concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for one in pool.map(read, ids):
            facts[one.image_id] = one
            bar.update()
    findings += checks.check(facts, splits, reader.spec, documented, reader.load)
    return Diagnosis(source, reader, reader.spec, splits, facts, _sorted(findings))


def _sorted(findings):
    """The worst first, then in the order of TITLES."""
    kinds = list(TITLES)
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), kinds.index(f.kind)))
