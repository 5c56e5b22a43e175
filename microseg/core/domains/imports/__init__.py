"""Labels that annotation tools write as outlines: LabelMe, COCO, CVAT, QuPath."""
