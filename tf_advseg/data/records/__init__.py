"""Records: a reader's images and labels as TFRecord files, written once and read at any place."""
