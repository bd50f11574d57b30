"""Records examined by the doctor: what cannot be read is a finding, too."""
from tf_advseg.core.errors import UserError
from tf_advseg.data.doctor import examination
from tf_advseg.data.doctor.findings import Finding
from tf_advseg.data.readers import base
from tf_advseg.data.records.record_set import SKIP_HINT, RecordSet


class RecordReader(base.Reader):
    """Records as a reader.

    Args:
      records: data.records.record_set.RecordSet.
    """

    def __init__(self, records):
        self.spec = records.spec
        self._records = records

    def splits(self):
        """See `Reader.splits`."""
        return {name: list(ids) for name, ids in self._records.splits.items()}

    def load(self, image_id):
        """See `Reader.load`."""
        return self._records.load(image_id)


def examine_records(folder, show=True, workers=None):
    """Examines a folder of records.

    Args:
      folder: what tools/prepare_data.py made.
      show: whether to show progress.
      workers: how many images are looked at at a time; None for one a core.

    Returns:
      doctor.Diagnosis.
    """
    try:
        records = RecordSet(folder, damaged='skip')
    except UserError as error:
        return examination.Diagnosis(str(folder), None, None, {}, {}, [
            Finding('error', 'refused', str(error), (), 'make the records anew')])
    made_by = records.manifest['identity']['reader'].get('reader')
    reader = RecordReader(records)
    return examination.examine(
        reader, reader.splits(), str(folder), examination.is_documented(made_by),
        [Finding('error', 'damaged', f'{records.folder / name}: image "{image_id}" is damaged',
                 (str(records.folder / name),), f'make the records anew; until then {SKIP_HINT}')
         for image_id, name in records.damaged],
        show, workers)
