"""DICOM: files of scanners, one slice or many frames each, to volumes. The only users of pydicom."""
