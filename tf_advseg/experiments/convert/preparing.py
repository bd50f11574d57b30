"""Raw data into records, with a report of what is in them: what tools/prepare_data.py does."""
import ast

from absl import logging

from tf_advseg.core import errors
from tf_advseg.core import files
from tf_advseg.data import readers
from tf_advseg.reporting import tables
from tf_advseg.run import dataset as datasets

_TRUTH = {'true': True, 'false': False}


def reader_options(texts):
    """{'seed': 3} from ['seed=3']; a value that is no Python literal is text.

    true and false are truth values in any case.

    Raises:
      UserError: a text without '=', or an option given twice.
    """
    options = {}
    for text in texts:
        name, equals, value = text.partition('=')
        name = name.strip()
        if not equals or not name.isidentifier():
            raise errors.UserError(f'--option={text}: expected NAME=VALUE, such as seed=1')
        if name in options:
            raise errors.UserError(f'--option={text}: {name} is given twice')
        try:
            options[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            options[name] = _TRUTH.get(value.strip().lower(), value.strip())
    return options


def prepare(reader, source, output, options=(), show=True):
    """Turns a folder or archive into records; kept as they are if they are there already.

    Args:
      reader: one of data.readers.READERS.
      source: folder or archive; None for generated data.
      output: the records' folder.
      options: texts NAME=VALUE, the reader's options.
      show: whether to show progress.

    Returns:
      data.records.record_set.RecordSet.

    Raises:
      UserError: bad input; names the file. Nothing half-written stays behind.
    """
    readers.reader_class(reader)  # a typo fails before any work
    records = datasets.prepare(reader, source, output, reader_options(options), show)
    warn_of_unseen(records)
    return records


def warn_of_unseen(records):
    """Logs the classes that no image of split 'train' shows, though other images do."""
    if 'train' not in records.splits:
        return
    shown = {name: set().union(*records.class_presence(records.split(name)).values())
             for name in records.splits}
    missing = sorted(set().union(*shown.values()) - shown['train'])
    if missing:
        names = ', '.join(f'"{records.spec.class_names[number]}"' for number in missing)
        logging.warning('%s: no image of split "train" shows %s, which other images do, so it '
                        'cannot be learnt; choose another split', records.folder, names)


def summary(records):
    """tables.Table: for each class, its share of the labelled pixels and of the images."""
    parts = {name: records.split(name) for name in records.splits}
    header = ['class', *(f'{name}: {what}' for name in parts for what in ('pixels', 'images'))]
    columns = []
    for ids in parts.values():
        pixels = records.average_class_counts(ids)
        presence = records.class_presence(ids).values()
        total = max(float(pixels.sum()), 1.0)
        columns.append([f'{100 * count / total:.1f} %' for count in pixels])
        columns.append([str(sum(number in seen for seen in presence))
                        for number in range(records.spec.num_classes)])
    rows = [(name, *(column[number] for column in columns))
            for number, name in enumerate(records.spec.class_names)]
    sizes = ', '.join(f'{name} {len(ids)}' for name, ids in parts.items())
    shapes = records.image_sizes(records.ids)
    return tables.plain_table(header, rows, f'{records.spec.name}: {sizes}; '
                              f'{shapes[:, 0].min()}-{shapes[:, 0].max()} pixels high, '
                              f'{shapes[:, 1].min()}-{shapes[:, 1].max()} wide; '
                              f'{files.folder_bytes(records.folder) / 1e6:.1f} MB')
