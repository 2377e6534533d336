"""DICOM files made for tests by pydicom."""

import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def write(path, values, *, stored=None, kind="MONOCHROME2", syntax=ExplicitVRLittleEndian, **tags):
    """A DICOM file of whole numbers [H, W], or uint8[H, W, C].

    Args:
        stored: BitsStored; None: all of the numbers' bits.
        tags: more, or None for those to leave out.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.Rows, image.Columns = values.shape[:2]
    image.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        image.PlanarConfiguration = 0
    image.PhotometricInterpretation = kind
    image.BitsAllocated = values.itemsize * 8
    image.BitsStored = stored or image.BitsAllocated
    image.HighBit = image.BitsStored - 1
    image.PixelRepresentation = int(values.dtype.kind == "i")
    image.PixelData = values.tobytes()
    for key, value in tags.items():
        if value is None:
            delattr(image, key)
        else:
            setattr(image, key, value)
    image.save_as(path, enforce_file_format=True)
    return path


def lut(descriptor, data):
    """An item of a LUT sequence."""
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = descriptor, data
    return table
